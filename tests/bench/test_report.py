"""The report as a page: whole, self-contained, escaped, and showing all that was measured or was not."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmtool.bench import Results, Round, Scenario, Timing, format_table, save_results
from lmtool.bench.regression.comparison import Change, Comparison, compare_runs
from lmtool.bench.report.charts import DOTS
from lmtool.bench.report.html import render_report, write_report
from lmtool.bench.roofline import Roofline
from lmtool.bench.scenario import streams
from lmtool.bench.statistics.estimate import Estimate
from lmtool.bench.sweep import Sweep
from lmtool.export.parity import Largest
from support.models.reports import make_parity_report
from support.models.results import ONE, make_results
from support.web.pages import Page

SCENARIOS = [
    ONE,
    *(Scenario.parse(text) for text in ("multi-stream:8", "offline:1x128", "load", "first-step", "server:50")),
]
RUNTIMES = ("torch", "onnx fp32", "onnx int8")


def parity(perplexity: float = 20.0, difference: float = 1e-6, batch_invariant: bool = True) -> dict[str, Any]:
    """What the harness keeps of a verification."""
    return make_parity_report(
        difference,
        tensors={"logits": Largest(difference, difference), "cell_0": Largest(3.25e-7, 3.25e-7)},
        loop_differences=7,
        artifact_perplexity=perplexity,
        batch_invariant=batch_invariant,
    ).to_json()


def measured(scenarios: Sequence[Scenario] = SCENARIOS, runtimes: Sequence[str] = RUNTIMES, **parts: Any) -> Results:
    """Two rounds of each runtime in each scenario, each runtime twice as fast as the one before it."""
    timings = [
        Timing(
            runtime,
            scenario,
            [Round([factor * 4e-3 / 2**index for factor in (1, 1.1, 1.2, 1, 9)], 10**8) for _ in "12"],
        )
        for index, runtime in enumerate(runtimes)
        for scenario in scenarios
    ]
    return replace(make_results({"torch": [[1.0]]}, **parts), timings=timings)


def page_of(results: Results, comparison: Comparison | None = None) -> Page:
    return Page(render_report(results, comparison))


@pytest.fixture(scope="module")
def whole() -> Results:
    """Something of everything."""
    sweep = Sweep(
        "batch",
        {
            name: {size: Timing(name, streams(size), [Round([start + slope * size] * 500)]) for size in (1, 4, 16)}
            for name, start, slope in (("onnx fp32", 1e-4, 1e-4), ("onnx fp32 on cuda", 5e-4, 1e-6))
        },
    )
    return measured(
        parity={"onnx fp32": parity(), "onnx int8": parity(20.2, batch_invariant=False)},
        placement={"onnx fp32": {"cpu": {"LSTM": 2, "Gemm": 1}}},
        rooflines={"onnx fp32": Roofline(4_000_000, 1e10, 2_000_000, 1e11, 0, 1e11)},
        failed={"onnx w4": ["logits differs by 3.10e-01"]},
        crashed={"torch on cuda": "the process was killed by SIGSEGV; its last words:\nout of memory"},
        skipped={"openvino": "it is not installed; pip install 'lmtool[portability]'"},
        sweeps=[sweep],
        load_after=[1.25, 0.5, 0.25],
    )


@pytest.fixture(scope="module")
def page(whole: Results) -> Page:
    return page_of(whole)


def test_every_table_scrolls_inside_the_page(whole: Results) -> None:
    source = render_report(whole)
    assert len(re.findall(r'<div class="scroll" [^>]*>\s*<table', source)) == source.count("<table") > 5


def test_the_page_needs_nothing_else(page: Page) -> None:
    assert page.outside == []
    policy = next(element.attributes for element in page.all("meta") if "http-equiv" in element.attributes)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


@pytest.mark.parametrize(
    "source",
    [
        "<img src='http://a/b.png'>",
        "<script>1</script>",
        "<style>@import 'a.css'</style>",
        "<style>p { background: url(a.png) }</style>",
        "<p style='background: url(a.png)'>",
        "<p onclick='a()'>",
        "<a href='https://a'>",
    ],
)
def test_external_files_and_scripts_are_noticed(source: str) -> None:
    tag = source[1:].partition(" ")[0].partition(">")[0]
    assert Page(source if "</" in source else f"{source}</{tag}>").outside


def test_wrong_nesting_is_noticed() -> None:
    for source in ("<p><b></p></b>", "<p>", "</p>"):
        with pytest.raises(AssertionError):
            Page(source)


def test_every_runtime_and_scenario_is_shown(page: Page, whole: Results) -> None:
    titles = [element.text for element in page.all("h3")]
    for scenario in whole.scenarios:
        assert scenario.named() in titles
    tables = [element for element in page.all("table") if any(parent.tag == "article" for parent in element.parents)]
    for scenario in whole.scenarios:
        (table,) = [element for element in tables if element.parents[-2].attributes.get("id") == str(scenario)]
        for runtime in whole.runtimes:
            assert runtime in table.text


def test_links_lead_somewhere(page: Page) -> None:
    names = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(set(names)) == len(names)
    links = [element.attributes["href"] for element in page.all("a")]
    assert "#verdict" in links
    assert {str(link)[1:] for link in links} <= set(names)


def test_tables_and_charts_say_what_they_are(page: Page) -> None:
    captions = [element.parents[-1] for element in page.all("caption") if element.text.strip()]
    assert page.all("table") == captions
    assert all(element.attributes.get("scope") for element in page.all("th"))
    for chart in [*page.all("div", "chart"), *page.all("svg", "plot")]:
        assert chart.attributes["role"] == "img"
        assert chart.attributes["aria-label"]
    summary = next(element.attributes["aria-label"] for element in page.all("div", "chart"))
    assert summary == (
        "tokens per second, longer is better: onnx int8 909 tokens/s; onnx fp32 455 tokens/s; torch 227 tokens/s"
    )


def test_the_verdict_names_the_fastest_and_the_fastest_batch_invariant(page: Page) -> None:
    verdict = next(element for element in page.all("table") if "ahead of the second" in element.text)
    row = " ".join(verdict.text.partition("single-stream")[2].partition("multi-stream")[0].split())
    assert (
        row
        == "onnx int8 909 tokens/s4.00 (4.00 to 4.00) onnx fp322.00 (2.00 to 2.00) +1.000% onnx fp32 455 tokens/s"
        + ("2.00 (2.00 to 2.00)")
    )
    titles = [(element.text, element.parents[-1].text) for element in page.all("p", "kicker")]
    fastest = next(text for title, text in titles if title == "Fastest in 6 of 6 scenarios")
    assert "onnx int8" in fastest
    assert "4.00x torch" in fastest
    assert "not batch-invariant" in fastest
    assert "onnx fp32" in next(text for title, text in titles if title.startswith("Fastest batch-invariant"))


def test_untimed_runtimes_are_shown_with_their_reason(page: Page) -> None:
    notes = " ".join(element.text for element in page.all("div", "note"))
    for expected in (
        "logits differs by 3.10e-01",
        "killed by SIGSEGV; its last words:\nout of memory",
        "it is not installed; pip install 'lmtool[portability]'",
    ):
        assert expected in notes
    charts = [element.text for element in page.all("div", "chart") if not element.has("strips")]
    assert len(charts) == len(SCENARIOS)
    for text in charts:
        assert "onnx w4FAILED the verification: not timed" in text
        assert "torch on cudaCRASHED: not timed" in text
    assert "computes what the original computes" not in page.text
    assert "computes what the original computes" in page_of(measured()).text


def test_names_and_last_words_are_escaped(tmp_path: Path) -> None:
    name, words = '<b>&"', "</pre><script>alert(1)</script>\x1b[31m\x00"
    results = measured(runtimes=("torch", name), crashed={"<i>": words}, skipped={"<u>": "<s>"})
    results = replace(results, model=Path("<em>\udcff.onnx"), parity={name: parity()}, failed={"<q>": ["<tt>"]})
    write_report(results, tmp_path / "bench.html")
    page = Page((tmp_path / "bench.html").read_text(encoding="utf-8"))
    assert {element.tag for element in page.elements} & {"i", "u", "s", "em", "q", "tt", "script"} == set()
    assert all(name in element.text for element in page.all("table") if "p50" in element.text)
    assert page.all("h1")[0].text == "Benchmark of <em>?.onnx"
    assert page.all("pre")[0].text == "</pre><script>alert(1)</script>\ufffd[31m\ufffd"
    assert page.outside == []


def dots(page: Page, name: str) -> int:
    return sum(str(element.attributes["d"]).count("M") for element in page.all("path", name))


def test_all_outliers_are_drawn_and_ordinary_calls_are_thinned() -> None:
    random = np.random.default_rng(0)
    rounds = [list(random.lognormal(-7, 0.5, 3000)) for _ in "123"]
    results = make_results({"torch": [*rounds, [1e-3] * 5], "onnx fp32": [[1e-3, 1e-3, 1.1e-3, 5.0]] * 4})
    outliers = [sum(one.outliers for one in timing.rounds) for timing in results.timings]
    assert outliers[0] > 100
    assert outliers[1] == 4
    page = page_of(results)
    assert dots(page, "outliers") == sum(outliers)
    assert dots(page, "ordinary") == 3 * (DOTS // 4) + 5 + 4 * 3
    assert render_report(results) == render_report(results)


def test_bars_are_as_long_as_their_values() -> None:
    results = make_results({"torch": [[4e-3], [4e-3]], "onnx fp32": [[1e-3], [1e-3]], "onnx int8": [[2e-3], [1e-3]]})
    chart = next(element for element in page_of(results).all("div", "chart"))
    widths = [
        float(element.attributes["width"] or 0)
        for element in page_of(results).all("rect")
        if element.parents[-1].has("bar")
    ]
    assert chart.text.index("onnx fp32") < chart.text.index("onnx int8") < chart.text.index("torch")
    assert widths == [1000, pytest.approx(1000 / 1.5, abs=0.1), 250]


def test_seconds_are_drawn_where_no_tokens_are_counted() -> None:
    page = page_of(make_results({"torch": [[4e-3]], "onnx fp32": [[1e-3]]}, Scenario("load")))
    assert page.all("div", "chart")[0].attributes["aria-label"] == (
        "seconds, shorter is better: onnx fp32 1.00 ms; torch 4.00 ms"
    )
    widths = [element.attributes["width"] for element in page.all("rect") if element.parents[-1].has("bar")]
    assert widths == ["250.0", "1000.0"]


def test_results_without_a_timing_still_make_a_page() -> None:
    results = make_results({}, failed={"onnx fp32": ["logits differ by 0.3"]}, parity={"onnx fp32": parity(30.0, 0.3)})
    page = page_of(results)
    assert "Nothing was timed" in page.text
    assert "logits differ by 0.3" in page.text
    assert "+50.000%" in page.text
    assert page.all("svg") == []
    assert "Nothing was timed" in page_of(make_results({})).text


def test_the_quality_of_the_model_stands_above_its_speed() -> None:
    figures = {"test_perplexity": 112.359, "test_bits_per_byte": 1.78634, "test_word_perplexity": 1226.06}
    shown = "test perplexity 112.36, 1.786 bits per byte, 1226.06 a word"
    results = measured(training=figures)
    assert f"The original: {shown}." in page_of(results).text
    assert f"model.onnx: {shown}" in format_table(results)
    assert "bits per byte" not in page_of(measured()).text + format_table(measured())


def test_parity_that_is_not_finite_says_so() -> None:
    report = parity() | {"artifact_perplexity": None, "perplexity_change": None}
    report["tensors"] = {"logits": {"absolute": None, "relative": None}}
    (row,) = [element for element in page_of(measured(parity={"onnx fp32": report})).all("tr") if "cpu" in element.text]
    assert row.text.count("not finite") == 3


def test_parity_floors_and_placement_are_shown(page: Page) -> None:
    (row,) = [element.text for element in page.all("tr") if "passed" in element.text and "onnx fp32" in element.text]
    for expected in ("1.0e-06", "3.3e-07", "7 of 200", "20.0000", "+0.000%", "0.01%", "yes"):
        assert expected in row
    assert "the test split of a corpus" in page.text
    rooflines = next(element.text for element in page.all("table") if "GB/s" in element.text)
    for expected in ("4,000,000 bytes", "10.0 GB/s", "2,000,000", "100 Gflop/s", "400 µs"):
        assert expected in rooflines
    assert "Gemm 1, LSTM 2" in page.text
    single = next(element.text for element in page.all("table") if "to floor" in element.text)
    assert "400 µs5.0x" in single
    assert "Load after1.25, 0.50, 0.25" in page.text


def test_a_sweep_shows_its_lines_and_crossovers(page: Page, whole: Results) -> None:
    assert "From 16 on onnx fp32 on cuda is faster than onnx fp32." in page.text
    table = next(element.text for element in page.all("table") if "bold" in element.text)
    for expected in ("200", "501", "106", "32.2"):
        assert expected in table
    assert [element.text for element in page.all("strong")] == ["200", "125", "32.2"]
    lines = [element for element in page.all("path", "line") if element.parents[-1].tag == "g"]
    paths = [str(line.attributes["d"]) for line in lines if line.parents[-2].has("plot")]
    assert [path.count("L") for path in paths[-2:]] == [2, 2]
    assert len(page.all("svg", "plot")) == 2  # the sweep, and throughput against latency


def test_a_server_that_is_not_valid_says_why() -> None:
    scenario = Scenario.parse("server:50")
    late = Timing("torch", scenario, [Round([1e-3], 1, 40.0, ["answered 40 of 50 requests a second"])])
    fine = Timing("onnx fp32", scenario, [Round([2e-3], 1, 50.0)])
    page = page_of(replace(make_results({"torch": [[1.0]]}), timings=[late, fine]))
    assert "Not valid: torch: answered 40 of 50 requests a second" in page.text
    assert [element.text for element in page.all("p", "name")] == ["onnx fp32"]
    chart = page.all("div", "chart")[0]
    assert chart.text.index("onnx fp32") < chart.text.index("torch not valid")
    assert "99th percentile of the latency" in str(chart.attributes["aria-label"])


def test_a_comparison_is_shown_and_marked(tmp_path: Path) -> None:
    before = make_results({"torch": [[4e-3], [4e-3]], "onnx fp32": [[2e-3], [2e-3]], "onnx int8": [[1e-3], [1e-3]]})
    now = make_results({"torch": [[4e-3], [4e-3]], "onnx fp32": [[3e-3], [3e-3]]})
    comparison = compare_runs(before.timings, now, 0.1)
    files = save_results(now, tmp_path, comparison)
    page = Page(files["report"].read_text())
    assert "Slower than allowed" in page.text
    assert [cell.text for cell in page.all("td", "refused")] == ["+50.0%!"]
    assert "Measured before, not now: onnx int8" in page.text
    assert "Slower than allowed" not in page_of(now, replace(comparison, allowed=None)).text
    assert "Before and now" not in page_of(now).text
    changes = [Change("a", ONE, 1.0, 1.0, Estimate(1.0)), Change("b", Scenario("load"), 1.0, 0.5, Estimate(0.5))]
    gaps = Comparison(changes, [], 0.1)
    assert [cell.text for cell in page_of(now, gaps).all("td", "h0")].count("") == 2


def test_processor_flags_that_matter_are_named() -> None:
    results = make_results({"torch": [[1.0]]})
    flags = ["aes", "amx_bf16", "avx", "avx512_vnni", "bf16", "f16c", "fma", "sse4_2", "vme"]
    environment = {**results.identity.environment, "flags": flags, "governor": None, "gpus": [], "affinity": [0, 1]}
    environment["cpu_quota"] = 1.5
    page = page_of(replace(results, identity=replace(results.identity, environment=environment)))
    shown = [element.text for element in page.all("code")]
    assert [flag for flag in flags if flag in shown] == [flag for flag in flags if flag not in ("aes", "vme")]
    assert " ".join(flags) in page.text
    assert "Governornot reported by the system" in page.text
    assert "CPU quota1.5 cores" in page.text


def test_a_large_report_is_small_and_quick() -> None:
    random = np.random.default_rng(0)
    scenarios = [*SCENARIOS, *(Scenario("multi-stream", size) for size in (16, 32, 64, 128))]
    timings = [
        Timing(f"runtime {index}", scenario, [Round(list(random.lognormal(-7, 0.4, 1000)), 1) for _ in range(5)])
        for index in range(8)
        for scenario in scenarios
    ]
    results = replace(make_results({"runtime 0": [[1.0]]}), timings=timings)
    start = time.process_time()
    text = render_report(results)
    assert time.process_time() - start < 3
    assert len(text.encode()) < 1_000_000
    drawn = sum(path.count("M") for path in re.findall(r'class="outliers" d="([^"]*)"', text))
    assert drawn == sum(one.outliers for timing in timings for one in timing.rounds)
    assert drawn > 10_000
