"""The schedule keeps guidelens's contract, and its weights are what the README says."""

import pytest
from guidelens import UsageError
from guidelens.testing import check_schedule
from guidelens_cosine_shift import CosineShift


@pytest.mark.parametrize("options", [{}, {"warmup": 0.0}, {"warmup": 0.99}, {"start": "itm", "end": "cap"}])
def test_the_contract(options):
    check_schedule(CosineShift(**options))


def test_the_weights():
    schedule = CosineShift(warmup=0.2)
    assert schedule.weights(0.0) == {"cap": 0.0, "itc": 0.0}
    assert schedule.weights(0.1) == pytest.approx({"cap": 0.5, "itc": 0.0})
    assert schedule.weights(0.2) == pytest.approx({"cap": 1.0, "itc": 0.0})
    assert schedule.weights(0.6) == pytest.approx({"cap": 0.5, "itc": 0.5})
    assert schedule.weights(1.0) == pytest.approx({"cap": 0.0, "itc": 1.0})


def test_no_warm_up_guides_from_the_first_step():
    assert CosineShift(warmup=0.0).weights(0.0) == {"cap": 1.0, "itc": 0.0}


@pytest.mark.parametrize("options", [{"start": "itc"}, {"warmup": 1.0}, {"warmup": -0.1}])
def test_bad_options_are_told(options):
    with pytest.raises(UsageError, match="cosine-shift"):
        CosineShift(**options)


def test_it_is_found_by_name_and_steers(guidelens_plugins, guidelens_engine):
    schedule = guidelens_plugins("guidelens_cosine_shift").build("schedule", "cosine-shift:warmup=0.3")
    assert schedule.warmup == 0.3
    (free,) = guidelens_engine.generate("a red circle", None)
    (steered,) = guidelens_engine.generate("a red circle", schedule)
    assert (steered.image - free.image).abs().max() > 0.01
