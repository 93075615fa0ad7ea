"""What a scan of folders says, in the words of its JSON report."""

import json

from invkit.data.prepare.layouts import find_series
from invkit.data.prepare.pairs import arrange
from invkit.data.prepare.scan import scan


def described(*paths, **options):
    report = scan(paths, **options).describe()
    assert json.loads(json.dumps(report, allow_nan=False))["patients"] == report["patients"]
    return report


def pairs_of(*paths):
    return arrange(find_series(paths)).pairs


def reasons(report):
    return {skip["file"].rpartition("/")[2]: skip["reason"] for skip in report["skipped"]}
