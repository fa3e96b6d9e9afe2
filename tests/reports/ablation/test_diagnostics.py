import dataclasses
import itertools

import matplotlib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coldray.experiments.ablation.result import Cloud, LossCurve
from coldray.experiments.results import mean_metric, std_metric
from coldray.reports.ablation.diagnostics import _COLUMNS, _PANELS, _ROW_HEIGHT, _WIDTH, _panel_figure, diagnostics
from coldray.reports.ablation.panels import _mean_curve
from coldray.reports.ablation.report import ablation_report
from coldray.reports.published import HETREC
from coldray.reports.style import new_figure, save_figure

DRAW = {panel.name: panel.draw for panel in _PANELS}


def drawn(name: str, result):
    """Return the axes that a panel was drawn into."""
    axes = new_figure(5, 3).subplots()
    DRAW[name](axes, result)
    axes.figure.draw_without_rendering()
    return axes


def visible_ticks(axis):
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1 if tick.label1.get_visible() else tick.label2
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high
    ]


def parts_of(figure):
    yield figure
    for part in figure.subfigs:
        yield from parts_of(part)


def texts(figure: Figure):
    """Return every visible text of a figure that is drawn."""
    found = [text for part in parts_of(figure) for text in (part._suptitle, part._supxlabel) if text is not None]
    panels = [inner for axes in figure.get_axes() for inner in (axes, *axes.child_axes)]
    for axes in panels:
        found += [*axes.texts, axes.title]
        found += axes.get_legend().get_texts() if axes.get_legend() else []
        if axes.axison:
            found += [axes.xaxis.label, axes.yaxis.label]
            found += [*visible_ticks(axes.xaxis), *visible_ticks(axes.yaxis)]
    return [text for text in found if text.get_visible() and text.get_text()]


def overlap(one, other) -> bool:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width > 1 and height > 1


@pytest.fixture(scope="module")
def any_figures(any_ablation) -> dict[str, Figure]:
    figures = {picture.name: picture.figure for picture in ablation_report(any_ablation).pictures}
    for figure in figures.values():
        figure.draw_without_rendering()
    return figures


def test_every_text_is_inside_its_figure_and_none_covers_another(any_figures):
    assert list(any_figures) == ["diagnostics", *(panel.name for panel in _PANELS)]
    for name, figure in any_figures.items():
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
        assert boxes, name
        for text, box in boxes:
            outside = box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
            assert not outside, f"{name}: {text!r} is cut at the edge of the figure"
        for (one, first), (other, second) in itertools.combinations(boxes, 2):
            assert not overlap(first, second), f"{name}: {one!r} covers {other!r}"


def test_every_text_stays_legible_at_half_a_page(any_figures):
    for figure in any_figures.values():
        assert min(text.get_fontsize() for text in texts(figure)) * min(1, 5.4 / figure.get_figwidth()) >= 6


def test_every_panel_with_data_has_labelled_axes(any_figures):
    for name, figure in any_figures.items():
        for axes in (inner for outer in figure.get_axes() for inner in (outer, *outer.child_axes)):
            if axes.axison:
                assert axes.get_xlabel() or axes.get_ylabel(), name
                assert axes.get_ylabel() or any(label.get_text() for label in axes.get_yticklabels()), name


def test_all_panels_are_in_the_figure_of_all_of_them(ablation):
    figure = diagnostics(ablation())
    titles = [part._suptitle.get_text() for part in parts_of(figure) if part is not figure and part._suptitle]
    assert len(titles) == len(_PANELS) == 12
    assert titles[:3] == ["1  Ablation at k = 10", "2  Ablation at k = 50", "3  Lift over MARec"]


@pytest.mark.parametrize(("name", "cutoff"), [("ablation_short_list", 10), ("ablation_long_list", 50)])
def test_each_mode_is_at_its_mean_with_its_deviation(ablation, name, cutoff):
    result = ablation()
    axes = drawn(name, result)
    for container, base in zip(axes.containers, ("hr", "ndcg"), strict=True):
        points, _, (whiskers,) = container
        means = [mean_metric(mode.folds, f"{base}@{cutoff}") for mode in result.modes]
        stds = np.array([std_metric(mode.folds, f"{base}@{cutoff}") for mode in result.modes])
        assert points.get_xdata() == pytest.approx(means)
        ends = np.array([segment[:, 0] for segment in whiskers.get_segments()])
        assert ends == pytest.approx(np.column_stack([means - stds, means + stds]))
    assert [label.get_text() for label in axes.get_yticklabels()] == [mode.name for mode in result.modes]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["HR", "NDCG"]
    assert axes.get_xlabel() == f"test value at k = {cutoff}\nmean ± std of 6 folds"


def test_a_single_fold_has_no_deviation(ablation):
    axes = drawn("ablation_short_list", ablation(folds=((42, 0),)))
    assert all(not bars for _, _, bars in axes.containers)
    assert axes.get_xlabel().endswith("one fold")


def test_lifts_are_in_per_cent_with_their_intervals_and_hollow_without_significance(ablation):
    result = ablation()
    axes = drawn("lift", result)
    bars = [line for line in axes.lines if line.get_marker() == "None"]
    marks = [line for line in axes.lines if line.get_marker() != "None"]
    assert len(bars) == len(marks) == 6
    for base, marker in (("hr", "o"), ("ndcg", "s")):
        for row, mode in enumerate(result.modes[1:]):
            lift = mode.lifts[f"{base}@10"]
            scale = 100 * lift.relative / lift.difference
            (mark,) = [m for m in marks if m.get_marker() == marker and round(m.get_ydata()[0]) == row]
            (bar,) = [b for b in bars if b.get_ydata()[0] == mark.get_ydata()[0]]
            assert mark.get_xdata()[0] == pytest.approx(scale * lift.difference)
            assert list(bar.get_xdata()) == pytest.approx([scale * lift.low, scale * lift.high])
            assert (to_hex(mark.get_markerfacecolor()) == "#ffffff") == (lift.p_adjusted >= 0.05)
    assert "lift at k = 10 (%)" in axes.get_xlabel()


def test_a_lift_of_nothing_still_has_its_interval(ablation):
    axes = drawn("lift", ablation(gains={}))
    (bar, *_) = [line for line in axes.lines if line.get_marker() == "None"]
    assert bar.get_xdata()[0] < 0 < bar.get_xdata()[1]


@pytest.mark.parametrize(("name", "term"), [("contrastive_loss", "InfoNCE"), ("gaussian_loss", "Gaussian NLL")])
def test_a_loss_has_a_line_for_each_fold_and_their_mean(ablation, name, term):
    result = ablation()
    axes = drawn(name, result)
    curves = result.curves[term]
    lines = [line for line in axes.lines if line.get_marker() in ("", "None")]
    *thin, bold = lines
    assert bold.get_linewidth() > 2 * thin[0].get_linewidth()
    for line, curve in zip(thin, curves, strict=True):
        assert line.get_ydata() == pytest.approx(curve.values)
        assert list(line.get_xdata()) == list(range(1, len(curve.values) + 1))
    assert bold.get_ydata() == pytest.approx(_mean_curve(curves))
    assert axes.get_xlabel() == "epoch"
    assert term in axes.get_ylabel()


def test_a_fold_that_stopped_counts_in_the_mean_with_its_last_value():
    curves = [LossCurve("a", np.array([4.0, 2.0])), LossCurve("b", np.array([2.0, 2.0, 1.0]))]
    assert _mean_curve(curves) == pytest.approx([3.0, 2.0, 1.5])


def test_the_two_terms_of_the_generative_part_have_axes_of_their_own(ablation):
    result = ablation()
    axes = drawn("generative_loss", result)
    (twin,) = [other for other in axes.figure.axes if other is not axes]
    for own, term in ((axes, "reconstruction"), (twin, "KL")):
        assert own.lines[-1].get_ydata() == pytest.approx(_mean_curve(result.curves[term]))
        assert own.get_ylabel().startswith(term)
        assert own.yaxis.label.get_color() == own.lines[-1].get_color()
    assert axes.lines[-1].get_linestyle() != twin.lines[-1].get_linestyle()


@pytest.mark.parametrize(
    ("name", "term"),
    [("contrastive_loss", "InfoNCE"), ("gaussian_loss", "Gaussian NLL"), ("generative_loss", "reconstruction and KL")],
)
def test_a_term_that_no_mode_trains_is_said_to_be_absent(ablation, name, term):
    axes = drawn(name, ablation(without=("InfoNCE", "Gaussian NLL", "reconstruction", "KL")))
    (text,) = axes.texts
    assert text.get_text().replace("\n", " ") == f"No mode of this ablation trains with {term}."
    assert not axes.axison


def test_warm_and_cold_items_are_told_apart_by_colour_and_shape(ablation):
    result = ablation()
    axes = drawn("feature_space", result)
    warm, cold = axes.collections
    np.testing.assert_allclose(warm.get_offsets(), result.features.points[~result.features.cold])
    np.testing.assert_allclose(cold.get_offsets(), result.features.points[result.features.cold])
    assert axes.get_xlabel() == "PC 1 (12 %)"
    assert axes.get_ylabel() == "PC 2 (7 %)"
    handles: list[Line2D] = axes.get_legend().legend_handles
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["warm items", "cold items"]
    assert len({handle.get_marker() for handle in handles}) == 2
    assert to_hex(handles[1].get_color()) == to_hex(cold.get_facecolor()[0])


def test_each_of_two_score_clouds_is_named(ablation):
    result = ablation()
    axes = drawn("score_space", result)
    assert [inset.get_title() for inset in axes.child_axes] == ["MARec", "+CA+UA+GE"]
    for inset, cloud in zip(axes.child_axes, result.scores.values(), strict=True):
        np.testing.assert_allclose(inset.collections[1].get_offsets(), cloud.points[cloud.cold])
    assert len(drawn("score_space", ablation(modes=("MARec",))).child_axes) == 1


def test_missing_points_are_said_to_be_missing(ablation):
    nothing = Cloud(np.zeros((0, 2)), np.zeros(0, bool), (0.0, 0.0))
    result = dataclasses.replace(ablation(), features=nothing, scores={}, neighbour_distance=np.full(3, np.nan))
    for name in ("feature_space", "score_space", "neighbour_distances"):
        axes = drawn(name, result)
        assert len(axes.texts) == 1
        assert not axes.axison


def test_the_histogram_counts_every_cold_item_and_marks_the_median(ablation):
    result = ablation()
    axes = drawn("neighbour_distances", result)
    assert sum(bar.get_height() for bar in axes.patches) == len(result.neighbour_distance)
    median = float(np.median(result.neighbour_distance))
    assert axes.lines[0].get_xdata()[0] == pytest.approx(median)
    assert axes.texts[0].get_text() == f"median {median:.2f}"
    assert drawn("neighbour_distances", dataclasses.replace(result, neighbour_distance=np.zeros(4))).patches


@pytest.mark.parametrize(
    ("name", "base", "unit"), [("coverage_by_length", "coverage", 100.0), ("hit_rate_by_length", "hr", 1.0)]
)
def test_each_mode_has_a_curve_over_the_lengths(ablation, name, base, unit):
    result = ablation()
    axes = drawn(name, result)
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == len(axes.lines) == 4
    for line, mode in zip(axes.lines, result.modes, strict=True):
        assert list(line.get_xdata()) == list(result.cutoffs)
        means = [unit * mean_metric(mode.folds, f"{base}@{k}") for k in result.cutoffs]
        assert line.get_ydata() == pytest.approx(means)
        assert line.get_label() == mode.name
    assert [label.get_text() for label in visible_ticks(axes.xaxis)] == ["5", "10", "20", "50", "100"]
    top = axes.transAxes.inverted().transform(axes.transData.transform((100, max(axes.lines[-1].get_ydata()))))[1]
    assert top < 0.75


def test_no_share_above_all_candidates_is_labelled(ablation):
    axes = drawn("coverage_by_length", ablation(cutoffs=(5, 50, 1000)))
    labels = [label.get_text() for label in visible_ticks(axes.yaxis)]
    assert max(float(label) for label in labels if label) == 100
    assert axes.get_ylim()[1] > 100


def test_the_hit_rate_is_shaded_by_its_interval(ablation):
    result = ablation()
    for band, mode in zip(drawn("hit_rate_by_length", result).collections, result.modes, strict=True):
        low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
        assert low == pytest.approx(mode.intervals["hr@5"][0])
        assert high == pytest.approx(mode.intervals["hr@100"][1])
    assert not drawn("coverage_by_length", result).collections


def test_lengths_close_to_each_other_share_a_label(ablation):
    axes = drawn("hit_rate_by_length", ablation(cutoffs=(5, 6, 7, 45, 50, 200, 1000)))
    assert [label.get_text() for label in visible_ticks(axes.xaxis)] == ["5", "45", "200", "1000"]


@given(st.sets(st.integers(1, 1000), min_size=2, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_two_labels_of_lengths_touch(ablation, cutoffs):
    axes = new_figure(_WIDTH / _COLUMNS, _ROW_HEIGHT).subplots()
    DRAW["hit_rate_by_length"](axes, ablation(cutoffs=tuple(sorted(cutoffs))))
    axes.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in visible_ticks(axes.xaxis)]
    assert all(left.x1 + 2 < right.x0 for left, right in itertools.pairwise(boxes))


def test_published_bars_stand_below_those_measured_here(ablation, published_dataset):
    result = ablation(dataset=published_dataset)
    axes = drawn("published_numbers", result)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    widths = dict(zip(labels, (bar.get_width() for bar in axes.patches), strict=True))
    assert labels[-2:] == ["MARec *", "+CA+UA+GE *"]
    for method, row in HETREC.methods.items():
        assert widths[method] == row["ndcg@10"]
    assert widths["+CA+UA+GE *"] == pytest.approx(mean_metric(result.modes[-1].folds, "ndcg@10"))
    assert f"{widths['+CA+UA+GE *']:.4f}" in [text.get_text() for text in axes.texts]
    assert axes.get_xlabel() == "test NDCG@10\n* here, 6 folds"


def test_published_numbers_of_other_data_are_hatched_and_called_so(ablation, published_dataset):
    result = ablation(dataset={**published_dataset, "name": "ml1m-hetrec"})
    axes = drawn("published_numbers", result)
    hatched = [bar.get_width() for bar in axes.patches if bar.get_hatch()]
    assert hatched == sorted(row["ndcg@10"] for row in HETREC.methods.values())
    assert len(axes.patches) == len(hatched) + 2
    assert axes.get_xlabel() == "test NDCG@10 (* here, 6 folds)\nhatched: other data (HetRec)"
    same = drawn("published_numbers", ablation(dataset=published_dataset))
    assert not any(bar.get_hatch() for bar in same.patches)


def test_why_no_published_number_stands_beside_generated_data_is_said(ablation, published_dataset):
    axes = drawn("published_numbers", ablation(dataset={**published_dataset, "name": "sample", "synthetic": True}))
    text = axes.texts[0].get_text().replace("\n", " ")
    assert "sample is generated data" in text
    assert "2,107 users × 6,234 items" in text
    assert not axes.patches


def test_a_metric_that_was_not_published_is_not_compared(ablation, published_dataset):
    axes = drawn("published_numbers", ablation(dataset=published_dataset, cutoffs=(7,)))
    assert "NDCG@7 was not published" in axes.texts[0].get_text().replace("\n", " ")


def test_one_list_length_leaves_the_second_panel_to_words(ablation):
    axes = drawn("ablation_long_list", ablation(cutoffs=(10,)))
    assert "one list length only, k = 10" in axes.texts[0].get_text().replace("\n", " ")


def test_generated_data_is_named_in_every_figure(ablation, published_dataset):
    result = ablation(dataset={**published_dataset, "synthetic": True})
    for figure in (diagnostics(result), _panel_figure(result, _PANELS[0])):
        assert "(synthetic data)" in figure._suptitle.get_text()
    assert "synthetic" not in diagnostics(ablation())._suptitle.get_text()


def test_the_same_ablation_gives_the_same_file_and_leaves_the_style_alone(ablation, tmp_path):
    before = dict(matplotlib.rcParams)
    files = [save_figure(diagnostics(ablation()), tmp_path / f"{i}.png").read_bytes() for i in range(2)]
    assert files[0] == files[1]
    assert dict(matplotlib.rcParams) == before
