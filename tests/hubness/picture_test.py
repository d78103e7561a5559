"""What the histogram of N_k shows."""

import numpy as np

from demjax.hubness import picture


def test_every_item_is_in_the_histogram_and_the_hubs_are_named():
    counts = {"raw": np.array([0, 0, 1, 97, 2]), "csls": np.array([20] * 5)}
    names = ["owl", "gull", "wren", "crow", "kite"]
    figure = picture.draw(counts, 10, names, {"raw": 1.5, "csls": float("nan")})
    raw, csls = figure.axes
    assert sum(bar.get_height() for bar in raw.patches) == sum(bar.get_height() for bar in csls.patches) == 5
    assert "skewness 1.50, 40% found by nobody" in raw.get_title() and "undefined" in csls.get_title()
    assert raw.texts[0].get_text().splitlines()[1] == "crow  97"
    assert raw.get_xlim() == csls.get_xlim()


def test_equal_hubs_stand_in_the_order_of_their_ids():
    assert picture.largest(np.array([3, 5, 5, 1, 5]), most=3) == [1, 2, 4]
