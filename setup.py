"""Packaging: version ranges here, exact tested versions in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
README = ROOT / "README.md"
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "recbole_lcrec" / "__init__.py").read_text(encoding="utf-8"), re.M
)
assert VERSION is not None, "recbole_lcrec/__init__.py says no __version__"

REQUIRES = [
    "recbole>=1.2.1,<1.3",
    "torch>=2.6",
    "transformers>=5.0,<6",
    "peft>=0.18",
    "scipy>=1.11",
    "pyyaml>=6.0",
    # RecBole 1.2.1 asks for Ray <= 2.6.3, which needs pkg_resources, numpy.bool8 and, with that numpy, pyarrow < 21
    "ray[tune]>=2.6.3,<2.7",
    "setuptools<81",
    "numpy>=1.24,<2",
    "pyarrow<21",
    "pandas>=2.0,<3",
    "scikit-learn>=1.3",
    "safetensors>=0.4.3",
    "tokenizers>=0.21",
    "tensorboard>=2.14",
    "tqdm>=4.66",
    "psutil>=5.9",
]

setup(
    name="recbole-lcrec",
    version=VERSION[1],
    description="LC-Rec and other generative recommenders as a plugin of RecBole",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    # Ray 2.6.3 has no wheels beyond Python 3.11; the tested scipy and pandas have none before it
    python_requires=">=3.11,<3.12",
    # the YAMLs lie at the top of the repository and inside the package once installed
    packages=[*find_packages(include=["recbole_lcrec", "recbole_lcrec.*"]), "recbole_lcrec.properties"],
    package_dir={"recbole_lcrec.properties": "properties"},
    package_data={
        "recbole_lcrec.properties": ["*.yaml", "model/*.yaml", "model/*/*.yaml", "dataset/*.yaml", "hyper/*.yaml"]
    },
    install_requires=REQUIRES,
    extras_require={
        "hyperopt": ["hyperopt>=0.2.7,<0.4"],
        "test": ["pytest>=8", "pytest-xdist>=3"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3",
            "ruff>=0.9",
            "mypy>=1.14",
            "types-PyYAML",
            "types-tqdm",
            "types-tabulate",
        ],
    },
    entry_points={"console_scripts": ["recbole-lcrec = recbole_lcrec.cli:main"]},
)
