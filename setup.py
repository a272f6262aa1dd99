"""Packaging: metadata and dependencies are in pyproject.toml; here is what it cannot say, where the YAMLs lie."""

import sys

from setuptools import find_packages, setup

if sys.version_info < (3, 11):  # pip would look for every pinned version first, and name one that it cannot find
    found = "{}.{} ({})".format(*sys.version_info[:2], sys.executable)
    sys.exit(f"recbole_lcrec needs Python 3.11 or newer, but this is Python {found}.")

setup(
    # the YAMLs are at the top of the repository, and inside the package once installed
    packages=[*find_packages(include=["recbole_lcrec", "recbole_lcrec.*"]), "recbole_lcrec.properties"],
    package_dir={"recbole_lcrec.properties": "properties"},
    package_data={
        "recbole_lcrec.properties": ["*.yaml", "*/*.yaml", "*/*/*.yaml"],
        "recbole_lcrec.pages": ["templates/*"],
        "recbole_lcrec.serving": ["page/*"],
    },
)
