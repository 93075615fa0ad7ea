import base64
import hashlib
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from invkit.errors import InputError
from invkit.report.data import Section, jsonable, plain
from invkit.report.html import LIMITS, render_html
from invkit.report.table import figure, overview, references, rows
from invkit.statistics.intervals import Interval

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "'><svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "`<b>x</b>`",
    "\x00\x1b[31mred\u202eevil",
    "&lt;b&gt;&#x3c;",
    "</style><style>*{display:none}",
]


class Page(HTMLParser):
    """Collects tags, attributes and texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.raw, self.texts, self.current = [], {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.current.append(tag)

    def handle_data(self, data):
        if self.current and self.current[-1] in ("script", "style"):
            self.raw.setdefault(self.current[-1], []).append(data)
        else:
            self.texts.append(data)

    def handle_endtag(self, tag):
        if tag in self.current:
            while self.current.pop() != tag:
                pass

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(written):
    return Page(written[1].html.read_text(encoding="utf-8"))


def hostile_page(text, layer, report):
    data = report(
        layer(text, note=text, metrics={text: 1.0, "spread_hu": 2.0, "note": text}),
        model=text,
        model_description=text,
        image=text,
        verdict=(text,),
        warnings=(text,),
        provenance=(text,),
        sections=(Section(text, text),),
        config={text: text},
        versions={text: text, "invkit": text},
        hashes={text: text},
        command=text,
        created=text,
    )
    return render_html(data, figures=[])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(text, layer, report):
    harmless, hostile = Page(hostile_page("harmless", layer, report)), Page(hostile_page(text, layer, report))
    count = [(tag, sorted(a)) for tag, a in harmless.tags]
    found = [(tag, sorted(a)) for tag, a in hostile.tags]
    if "`" in text:
        found = [entry for entry in found if entry[0] != "code"]
        count = [entry for entry in count if entry[0] != "code"]
    assert found == count
    assert hostile.raw == harmless.raw
    assert not re.search(r"[\x00-\x08\x1b\u202e]", "".join(hostile.texts))
    assert "49" not in "".join(hostile.texts)


def test_policy_names_the_style_and_the_script_by_hash(page):
    policy = next(
        a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = page.raw[tag]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    # the policy forbids style attributes and handlers, so none may be relied on
    assert not [a for _, a in page.tags if "style" in a or any(key.startswith("on") for key in a)]


def test_nothing_is_loaded_from_anywhere(page, written):
    for _, attributes in page.tags:
        for key in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(key, "data:").startswith(("data:", "#")), attributes
    text = written[1].html.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"data:[^\"]*|(?m:^// .*$)", "", text))


def test_images_are_inside_named_and_decodable(page):
    images = page.named("img")
    assert len(images) > 10
    for image in images:
        assert image["src"].startswith("data:image/png;base64,")
        assert base64.b64decode(image["src"].split(",")[1]).startswith(b"\x89PNG")
        assert int(image["width"]) > 0
    assert sum(not image["alt"] for image in images) == 1  # the viewer's, filled in by the script
    for source in page.named("source"):
        kind, data = source["srcset"].split(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(data)
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert b"style" not in svg  # which the page's policy may forbid


def test_reader_finds_verdict_first_and_limits_last(page):
    sections = [attributes["id"] for attributes in page.named("section")]
    assert sections == ["verdict", "analysed", "figures", "numbers", "section-1", "made", "limits"]
    assert {a["href"] for a in page.named("a")} == {"#main", *(f"#{name}" for name in sections)}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.named("html") == [{"lang": "en"}]
    labels = {attributes["for"] for attributes in page.named("label")}
    assert labels <= set(ids)
    assert "hidden" in next(a for a in page.named("div") if a.get("class") == "viewer")


def test_texts_of_the_page_claim_no_membership(page):
    text = " ".join(page.texts).lower()
    assert "invarian" not in text
    assert "spread of the model" in text
    assert "invarian" not in " ".join(LIMITS).lower()


def test_numbers_stand_with_interval_unit_and_meaning(page):
    text = " ".join(" ".join(page.texts).split())
    assert "40.0 HU [38.0, 42.0]" in text
    assert "-1.090 nats/dim" in text
    assert "0.13 [0.12, 0.14]" in text or "0.130 [0.120, 0.140]" in text


def test_several_layers_have_an_overview(layer, report):
    page = Page(render_html(report(layer("1"), layer("3")), figures=[]))
    assert len(page.named("table")) == 5  # all layers, and for each its references and its figures
    assert "All layers" in page.texts
    headings, table = overview([("1", layer("1").metrics), ("3", {"spread_hu": 2.5})])
    assert headings == [
        "Layer",
        "Spread, HU",
        "Fiber error",
        "NLL, nats/dim",
    ]
    assert table[1] == ["3", "2.5", "", ""]


def test_target_domain_says_what_it_is(layer, report):
    text = render_html(report(domain="high"), figures=[])
    assert "high-dose target domain" in text
    assert "not meant to have the activation" in text


def test_unknown_figures_are_shown_under_their_key():
    found = rows({"b": {"c_hu": 2}, "spread_hu": 1.5, "text": "ok", "none": None})
    assert [(row.key, row.value) for row in found] == [
        ("spread_hu", "1.5 HU"),
        ("b.c_hu", "2 HU"),
        ("text", "ok"),
    ]
    assert figure({"a": {"value": 1, "low": 0, "high": 2}}, "a") == Interval(1, 0, 2)
    assert rows({"spread_hu": [1, 2]}) == []


def test_images_of_other_shapes_are_refused(layer, report):
    one = layer()
    with pytest.raises(InputError, match="mean must have shape"):
        type(one)("3", one.x, one.mean[:5], one.std, one.samples)
    with pytest.raises(InputError, match="samples must have shape"):
        type(one)("3", one.x, one.mean, one.std, one.samples[0])
    with pytest.raises(InputError, match="not finite"):
        type(one)("3", one.x * np.nan, one.mean, one.std, one.samples)
    with pytest.raises(InputError, match="one shape"):
        report(layer(), layer(shape=(16, 16)))
    with pytest.raises(InputError, match="at least one layer"):
        report(layers=())


def test_plain_and_jsonable_are_total():
    assert plain("a\tb\nc") == "a\tb\nc"
    assert plain("\x1b[2J\ud800\u202e") == "\ufffd[2J\ufffd\ufffd"
    value = {
        1: (np.float32(0.5), np.array([1, 2]), float("nan"), {"x"}),
        "i": Interval(1.0, 0.5, 2.0),
        "o": object,
    }
    assert jsonable(value) == {
        "1": [0.5, [1, 2], None, ["x"]],
        "i": {"value": 1.0, "low": 0.5, "high": 2.0},
        "o": "<class 'object'>",
    }


def test_references_stand_in_their_three_units_in_order_of_distance():
    metrics = {
        "fiber_error": {"samples": Interval(0.13, 0.12, 0.14), "nearest": 0.6, "vae": 0.1},
        "ladder": {
            "eta": {"samples": 1.3, "nearest": 6.0, "vae": 1.0},
            "f_error_hu": {"samples": 20.0, "nearest": 90.0, "vae": 18.0},
            "bank": 2000,
        },
    }
    headings, table = references(metrics)
    assert len(headings) == 4
    assert [row[0].split()[-1] for row in table] == ["x", "samples", "patches"]
    assert table[2][1:] == ["0.6", "6", "90"]
    assert table[1][1] == Interval(0.13, 0.12, 0.14).text()
    assert [row.key for row in rows(metrics) if row.key.startswith("ladder")] == ["ladder.bank"]
    assert references({"spread_hu": 3.0})[1] == []


def test_references_begin_with_a_capital_but_symbols_keep_their_case():
    metrics = {"fiber_error": {"training_free": 0.1, "noise_white": 0.2, "random": 0.3, "samples": 0.4}}
    assert [row[0].split()[0] for row in references(metrics)[1]] == ["f(x)", "x", "A", "The"]
