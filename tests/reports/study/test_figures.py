import itertools
import subprocess
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from coldray.core.errors import OutputError
from coldray.reports.published import HETREC
from coldray.reports.study.figures import published_picture, split_spread, validation_against_test
from coldray.reports.study.parameters import parameter_effects
from coldray.reports.study.report import study_report
from coldray.reports.style import as_png, save_figure

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def any_figures(any_study) -> dict[str, Figure]:
    return {picture.name: drawn(picture.figure) for picture in study_report(any_study).pictures}


def drawn(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


def overlap(one, other) -> bool:
    """Tell whether two pixel boxes share more than the rounding of their edges."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width > 1 and height > 1


def visible_ticks(axis):
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1
        for tick in axis.get_major_ticks()
        if tick.label1.get_visible() and tick.label1.get_text() and low <= tick.get_loc() <= high
    ]


def texts(figure: Figure):
    found = [text for text in (figure._suptitle, figure._supxlabel) if text is not None]
    found += [text for part in (figure, *figure.subfigs) for legend in part.legends for text in legend.get_texts()]
    for axes in figure.get_axes():
        found += [*visible_ticks(axes.xaxis), *visible_ticks(axes.yaxis), axes.xaxis.label, axes.yaxis.label]
        found += axes.texts
    return [text for text in found if text.get_visible() and text.get_text()]


def test_every_text_is_inside_its_figure_and_none_covers_another(any_figures):
    for name, figure in any_figures.items():
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
        assert boxes, name
        for text, box in boxes:
            outside = box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
            assert not outside, f"{name}: {text!r} is cut at the edge of the figure"
        for (one, first), (other, second) in itertools.combinations(boxes, 2):
            assert not overlap(first, second), f"{name}: {one!r} covers {other!r}"


def test_every_text_has_nine_points_or_more(any_figures):
    sizes = {text.get_fontsize() for figure in any_figures.values() for text in texts(figure)}
    assert min(sizes) >= 9


def test_every_panel_has_labelled_axes(any_figures):
    for name, figure in any_figures.items():
        panels = figure.get_axes()
        assert all(axes.get_xlabel() for axes in panels), name
        if name == "published_comparison":
            continue  # the methods' names are the label
        firsts = [axes for axes in panels if axes.get_subplotspec().is_first_col()]
        assert firsts, name
        assert all(axes.get_ylabel() for axes in firsts), name


@pytest.mark.parametrize("n", range(1, 10))
def test_there_is_a_panel_for_each_parameter(study, parameters, n):
    figure = parameter_effects(study(parameters=parameters[:n]))
    assert len(figure.get_axes()) == n


def panel(study, values, **kw):
    figure = drawn(parameter_effects(study(parameters=("x",), space={"x": values}, **kw)))
    return figure.get_axes()[0]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 10.0, 1000.0], "log"),
        ([1e-5, 1e-3, 1e-2], "log"),
        ([1.0, 10.0, 100.0], "linear"),  # two decades, not more
        ([0.1, 0.2, 0.5], "linear"),
        ([-1.0, 1.0, 1000.0], "linear"),
        ([0.0, 1.0, 1000.0], "symlog"),
        (["a", "b"], "linear"),
    ],
)
def test_the_scale_follows_the_values(study, values, scale):
    assert panel(study, values).get_xscale() == scale


def test_grid_values_are_the_ticks(study):
    labels = [label.get_text() for label in visible_ticks(panel(study, [1.0, 100.0, 5000.0]).xaxis)]
    assert sorted(labels) == ["1", "100", "5000"]


def test_mixed_values_and_none_are_categories_numbers_first(study):
    labels = [label.get_text() for label in visible_ticks(panel(study, ["wide", None, 0.3, 0.1]).xaxis)]
    assert labels == ["0.1", "0.3", "none", "wide"]


def test_points_of_categories_stand_in_the_same_place_in_every_drawing(study):
    places = [
        [line.get_xdata().tolist() for line in panel(study, ["a", "b"]).lines if hasattr(line.get_xdata(), "tolist")]
        for _ in range(2)
    ]
    assert places[0] == places[1]
    assert any(places[0])


def test_dollar_signs_are_text(study):
    assert "$x^$" in [label.get_text() for label in visible_ticks(panel(study, ["$x^$", "b"]).xaxis)]


def test_failed_trials_and_nan_metrics_are_not_drawn(study):
    result = study(parameters=("lambda1",), n_trials=20, n_pruned=4, n_failed=3)
    axes = parameter_effects(result).get_axes()[0]
    assert sum(len(line.get_xdata()) for line in axes.lines) == 17
    assert sorted(len(line.get_xdata()) for line in axes.lines) == [1, 4, 12]


def test_the_winner_is_shown_even_below_the_top(study):
    result = study(winner_rank=14)
    figure = drawn(split_spread(result, top=5))
    labels = figure.get_axes()[0].get_yticklabels()
    assert len(labels) == 6
    assert labels[-1].get_text().startswith(f"#{result.selection.winner.number} ")
    assert labels[-1].get_fontweight() == "bold"


def test_each_split_is_a_labelled_point_and_the_note_says_what_was_tested(study):
    result = study()
    figure = validation_against_test(result)
    expected = {f"{fold.seed}/{fold.split}" for fold in result.test}
    for axes in figure.get_axes():
        assert {text.get_text() for text in axes.texts if text.get_text()} == expected
    assert "Only the selected configuration was tested" in figure._supxlabel.get_text().replace("\n", " ")
    assert [axes.get_xlabel() for axes in figure.get_axes()] == ["validation NDCG@10", "validation HR@10"]


@pytest.mark.parametrize(
    "change",
    [{"name": "ml1m-hetrec"}, {"n_users": 2113}, {"n_items": 10_109}, {"synthetic": True}],
    ids=["other name", "other users", "other items", "synthetic"],
)
def test_only_the_published_dataset_is_compared(study, published_dataset, change):
    assert published_picture(study(dataset=published_dataset)) is not None
    assert published_picture(study(dataset={**published_dataset, **change})) is None


def test_the_comparison_holds_every_published_number(study, published_dataset):
    figure = published_picture(study(dataset=published_dataset)).figure
    written = {text.get_text() for axes in figure.get_axes() for text in axes.texts}
    for row in HETREC.methods.values():
        assert {f"{value:.4f}" for value in row.values()} <= written


def test_no_common_metric_means_no_comparison(study, published_dataset):
    assert published_picture(study(dataset=published_dataset, cutoffs=(5, 100))) is None


def test_generated_data_is_named_in_every_figure(study, published_dataset):
    pictures = study_report(study(dataset={**published_dataset, "synthetic": True})).pictures
    assert len(pictures) == 3
    for picture in pictures:
        assert "synthetic data" in picture.figure._suptitle.get_text()


def test_global_state_is_left_alone(study):
    before = dict(matplotlib.rcParams)
    as_png(parameter_effects(study()))
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys, coldray.reports.study.report, coldray.reports.export; sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_same_study_gives_the_same_file(study, tmp_path):
    files = [save_figure(split_spread(study()), tmp_path / f"{i}.png").read_bytes() for i in range(2)]
    assert files[0].startswith(PNG)
    assert files[0] == files[1]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_each_format_is_written(study, tmp_path, suffix):
    assert save_figure(split_spread(study()), tmp_path / f"deep/figure{suffix}").stat().st_size > 1000


def test_an_unknown_format_names_the_known_ones(study, tmp_path):
    with pytest.raises(OutputError, match=r"figure\.docx.*\.png, \.svg, \.pdf"):
        save_figure(split_spread(study()), tmp_path / "figure.docx")
