"""The reliability bench: what it promises under each fault stands in README.md."""


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "reliability: the reliability bench; RELIABILITY=all runs all of it")
