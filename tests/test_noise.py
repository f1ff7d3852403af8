"""Noise is float32 whatever PyTorch's default dtype: pictures must not depend on a setting of the caller's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from guidelens.diffusion import KeyedNoise, NoiseStream
from guidelens.engine import Engine, Sample
from toys import EVERYTHING, SHAPE, Constant, GaussianGenerator, Quadratic


@pytest.fixture(params=[torch.float16, torch.float64], name="default_dtype")
def another_default_dtype(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


# Drawn once under the usual default, when this module is imported.
STREAM = NoiseStream([7, 8], SHAPE).next()
NORMAL = KeyedNoise([7, 8]).normal(SHAPE, "renoise", 1, 1)
UNIFORM = KeyedNoise([7, 8]).uniform((4,), "affine", 1)


def test_draws_are_the_same(default_dtype):
    assert torch.equal(NoiseStream([7, 8], SHAPE).next(), STREAM)
    assert torch.equal(KeyedNoise([7, 8]).normal(SHAPE, "renoise", 1, 1), NORMAL)
    assert torch.equal(KeyedNoise([7, 8]).uniform((4,), "affine", 1), UNIFORM)
    assert {STREAM.dtype, NORMAL.dtype, UNIFORM.dtype} == {torch.float32}


def picture():
    engine = Engine(GaussianGenerator(), Quadratic(), replace(EVERYTHING, steps=6), device="cpu")
    (result,) = engine.run([Sample("0.9", Constant(near=1.0), 3)])
    return result.image


PICTURE = picture()


def test_pictures_are_the_same(default_dtype):
    assert torch.equal(picture(), PICTURE)
