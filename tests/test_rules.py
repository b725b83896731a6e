"""What the rules of the workflow say of themselves."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def rules(*files):
    """Name -> text of the rules that these files write out."""
    text = "\n".join(path.read_text() for path in files)
    return dict(re.findall(r"^ *rule (\w+):\n(.*?)(?=^\S|^ *rule |\Z)", text, re.M | re.S))


def test_rules_that_report_name_what_they_depend_on():
    found = rules(*(REPOSITORY / f"workflow/rules/{name}.smk" for name in ("report", "er")))
    reporting = {name: text for name, text in found.items() if "../scripts/" in text}
    del reporting["measure_information"]  # evaluates
    assert len(reporting) == 10
    for name, text in reporting.items():
        assert 'code=version(Code("reporting"))' in text, name
        # what reads results, tables and figures alone
        if name not in ("collect_results", "make_report"):
            assert "spec=fingerprint(reporting_identity(STUDY))" in text, name


def test_targets_run_here():
    snakefile = REPOSITORY / "Snakefile"
    local = re.search(r"^localrules:\n((?: +\w+,\n)+)", snakefile.read_text(), re.M)[1]
    found = rules(snakefile, *(REPOSITORY / "workflow/rules").glob("*.smk"))
    targets = {name for name, text in found.items() if "script:" not in text}
    assert targets == set(re.findall(r"\w+", local))
