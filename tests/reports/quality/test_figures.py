"""The figures of a check of data: what they show is what was counted, in every shape."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from coldray.data.quality.activity import Activity
from coldray.data.quality.facts import ALL
from coldray.reports.quality.figures import (
    FIGURES,
    _at_least,
    _log_ticks,
    _lorenz,
    _part_color,
    left_out,
    quality_pictures,
)
from reports.quality_checks import SHAPES, quality_check


def _figures(check) -> dict[str, Figure]:
    return {picture.name: picture.figure for picture in quality_pictures(check)}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_is_drawn_or_left_out_with_a_reason(shape):
    before = dict(matplotlib.rcParams)
    check = quality_check(shape)
    figures, reasons = _figures(check), left_out(check)
    assert set(figures) | set(reasons) == set(FIGURES)
    assert not set(figures) & set(reasons)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_is_cut_or_a_formula_and_labels_do_not_overlap(shape):
    for name, figure in _figures(quality_check(shape)).items():
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * figure.dpi
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                labels = [label for label in labels if label.get_text() and label.get_visible()]
                assert not any("$" in label.get_text() for label in labels), name
                for one, other in pairwise(label.get_window_extent() for label in labels):
                    assert not one.overlaps(other), (name, [label.get_text() for label in labels])
            for text in (axes.xaxis.label, axes.yaxis.label, *axes.texts):
                box = text.get_window_extent()
                assert box.x0 >= -1, (name, text.get_text())
                assert box.y0 >= -1, (name, text.get_text())
                assert box.x1 <= width + 1, (name, text.get_text())
                assert box.y1 <= height + 1, (name, text.get_text())


def test_bars_are_the_shares_of_each_part():
    check = quality_check()
    (axes,) = _figures(check)["ratings"].axes
    drawn = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}
    assert set(drawn) == {"train", "validation", "test"}
    for name, heights in drawn.items():
        counts = np.array(check.quality.part(name).ratings.counts)
        assert heights == pytest.approx(100 * counts / counts.sum())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3", "4", "5"]


def test_counts_of_plays_are_outlines_on_a_logarithmic_axis():
    check = quality_check("plays")
    (axes,) = _figures(check)["ratings"].axes
    assert axes.get_xscale() == "log"
    counts = np.array(check.quality.part("train").ratings.counts)
    assert axes.patches[0].get_data().values == pytest.approx(100 * counts / counts.sum())


def test_periods_are_stacked_to_all_interactions_and_shares_end_at_all():
    check = quality_check("published")
    above, below = _figures(check)["over_time"].axes
    top = max((patch.get_data() for patch in above.patches), key=lambda data: data.values.sum())
    assert top.values == pytest.approx(check.quality.timeline.counts.sum(axis=0))
    assert [patch.get_label() for patch in above.patches] == ["train", "test"]
    assert all(line.get_ydata()[[0, -1]].tolist() == [0, 100] for line in below.lines)
    days = check.quality.timeline.edges
    assert matplotlib.dates.num2date(below.lines[0].get_xdata()[-1]).date() == days[-1].item()


def test_data_in_one_part_have_one_panel_over_time():
    assert len(_figures(quality_check("unsplit"))["over_time"].axes) == 1


def test_the_map_is_the_density_with_empty_groups_left_white():
    check = quality_check()
    image = _figures(check)["heat_map"].axes[0].images[0].get_array()
    density = check.quality.map.density
    assert np.array_equal(np.ma.getmaskarray(image), density == 0)
    assert image.compressed() == pytest.approx(density[density > 0])


def test_the_curve_is_how_many_have_at_least_so_many():
    axes = Figure().subplots()
    _at_least(axes, Activity(np.array([9, 3, 3, 1])), "user", "black")
    assert axes.lines[0].get_xdata().tolist() == [1, 3, 9]
    assert axes.lines[0].get_ydata().tolist() == [4, 3, 1]
    assert axes.texts[0].get_text() == "median 3"


def test_the_long_tail_begins_with_the_most_active():
    along, up = _lorenz(np.array([6, 3, 1]))
    assert along == pytest.approx([0, 100 / 3, 200 / 3, 100])
    assert up == pytest.approx([0, 60, 90, 100])
    assert len(_lorenz(np.ones(10_000, np.int64), 50)[0]) == 50


@given(st.floats(1e-8, 1e8), st.floats(1.05, 1e12))
def test_a_logarithmic_axis_has_two_to_six_ticks_inside(low, ratio):
    ticks = _log_ticks(low, low * ratio)
    assert 2 <= len(ticks) <= 6
    assert all(low * 0.99 <= tick <= low * ratio * 1.01 for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_parts_have_colours_of_their_own():
    names = [part.name for part in quality_check("five parts").quality.parts if part.name != ALL]
    assert len(names) == 5
    assert len({_part_color(name) for name in names[:3]}) == 3
    assert _part_color(names[3]) not in {_part_color(name) for name in names[:3]}
