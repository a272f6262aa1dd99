"""Packaging: metadata and dependencies are in pyproject.toml; here is what it cannot say, where the YAMLs lie."""

from setuptools import find_packages, setup

setup(
    # the YAMLs lie at the top of the repository and inside the package once installed
    packages=[*find_packages(include=["recbole_lcrec", "recbole_lcrec.*"]), "recbole_lcrec.properties"],
    package_dir={"recbole_lcrec.properties": "properties"},
    package_data={"recbole_lcrec.properties": ["*.yaml", "*/*.yaml", "*/*/*.yaml"]},
)
