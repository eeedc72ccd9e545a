import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from leafkit.errors import InputError
from leafkit.training import RunLog
from leafkit.training.log import Curve
from leafkit_eval.report import write_curves
from leafkit_eval.report.curves import LOSS_POINTS
from leafkit_eval.report.plots import CURVE_PX, curve_plot

SVG = "{http://www.w3.org/2000/svg}"


def run(folder, **curves):
    made = {}
    for name, values in curves.items():
        numbers = np.arange(1, len(values) + 1)
        made[name] = Curve(numbers, numbers * 10, np.array(values, np.float64))
    length = max((len(values) for values in curves.values()), default=0)
    return RunLog(folder, "static", length, 10 * length, 1.0, True, made)


def test_a_plots_points_are_where_its_ticks_say():
    plot = curve_plot("t", [("a", [0, 50, 100], [0.2, 0.35, 0.6])], reach=100)
    assert plot.x_ticks == [(0.0, "0"), (128.0, "20"), (256.0, "40"), (384.0, "60"), (512.0, "80"), (640.0, "100")]
    assert plot.y_ticks == [(180.0, "0.2"), (135.0, "0.3"), (90.0, "0.4"), (45.0, "0.5"), (0.0, "0.6")]
    assert plot.lines[0].points == [(0.0, 180.0), (320.0, 112.5), (640.0, 0.0)]


@pytest.mark.parametrize("values", [[0.69, 0.70], [0.5], [0.0, 0.0], [-3.0, 12345.0], [1e-9, 2e-9]])
def test_any_values_lie_inside_their_axes_with_few_ticks(values):
    plot = curve_plot("t", [("a", range(len(values)), values)], reach=len(values))
    assert all(0 <= x <= CURVE_PX[0] and 0 <= y <= CURVE_PX[1] for x, y in plot.lines[0].points)
    assert 2 <= len(plot.y_ticks) <= 7
    heights = [y for _, y in plot.lines[0].points]
    flat = max(values) - min(values) < 1e-5
    assert flat or max(heights) - min(heights) >= CURVE_PX[1] / 2  # a tick is at most half of what the values span
    assert len({label for _, label in plot.y_ticks}) == len(plot.y_ticks)


def test_a_long_loss_is_drawn_as_means_and_a_single_point_as_a_dot(tmp_path):
    random = np.random.default_rng(0)
    runs = [run(tmp_path / "a & b", loss=random.random(5000), cosine=[0.5])]
    write_curves(runs, tmp_path / "c.svg")
    lines = [line.get("points").split() for line in ElementTree.parse(tmp_path / "c.svg").iter(f"{SVG}polyline")]
    assert [len(line) for line in lines] == [LOSS_POINTS, 2]
    assert lines[1][0] == lines[1][1]


def test_a_run_that_has_only_begun_is_a_dot_over_whole_texts(tmp_path):
    begun = Curve(np.array([0]), np.array([0]), np.array([0.7]))
    write_curves([RunLog(tmp_path / "a", None, 0, 0, 0.0, False, {"cosine": begun})], tmp_path / "c.svg")
    root = ElementTree.parse(tmp_path / "c.svg").getroot()
    assert [line.get("points").split()[0].split(",")[0] for line in root.iter(f"{SVG}polyline")] == ["0.0"]
    assert "1.0" in [text.text for text in root.iter(f"{SVG}text")]  # the axis ends at one text


def test_nine_runs_can_be_told_apart(tmp_path):
    write_curves([run(tmp_path / str(number), loss=[1.0, 0.5]) for number in range(9)], tmp_path / "c.svg")
    root = ElementTree.parse(tmp_path / "c.svg").getroot()
    assert len({line.get("class") for line in root.iter(f"{SVG}polyline")}) == 9


def test_runs_without_finite_values_are_left_out_and_without_any_refused(tmp_path):
    write_curves([run(tmp_path / "a", loss=[np.nan, np.nan], cosine=[0.1]), run(tmp_path / "b")], tmp_path / "c.svg")
    root = ElementTree.parse(tmp_path / "c.svg").getroot()
    assert len(list(root.iter(f"{SVG}polyline"))) == 1
    with pytest.raises(InputError, match="nothing was logged yet"):
        write_curves([run(tmp_path / "b")], tmp_path / "d.svg")
    assert not (tmp_path / "d.svg").exists()
