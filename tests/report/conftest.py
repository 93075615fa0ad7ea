import pytest
from report_data import make_layer, make_report


@pytest.fixture
def layer():
    return make_layer


@pytest.fixture
def report():
    return make_report


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    from invkit.report.write import write_report

    folder = tmp_path_factory.mktemp("report")
    return folder, write_report(folder, make_report())
