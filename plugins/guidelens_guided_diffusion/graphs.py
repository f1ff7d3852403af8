"""The UNet's prediction and its gradient as CUDA graphs, for batches that are too small to keep a GPU busy.

A step of the full-size network launches more than a thousand kernels. In a small batch, the GPU finishes each kernel
before the host has launched the next. A CUDA graph launches all kernels of a pass at once. It repeats the recorded
kernels on the recorded addresses, so inputs are copied into fixed tensors and outputs are copied out of them. The
kernels are those of the network outside a graph.

Recording follows PyTorch's notes on CUDA graphs: warm up and capture on one side stream, and let the backward graph
allocate from the memory pool of the forward graph, because it always runs after it.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from guidelens.networks import own_precision
from guidelens.quiet import quiet
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import ops
from .compiled import Predict
from .unet import UNet

logger = logging.getLogger(__name__)

DEVICES = ("cuda",)
"""Device types that have graphs."""
LARGEST = 4 * 256 * 256
"""Largest number of pixels in a batch. Larger batches keep a GPU busy, and recorded activations need memory."""
KEPT = 4
"""Number of recordings that are kept: guided and unguided, for the batches of a run and its last, smaller batch."""
_WARM_UP = 3
"""Passes before the capture, as in PyTorch. They choose kernels and convert weights, which a capture cannot do."""

Inputs = tuple[Tensor, Tensor, "Tensor | None"]
"""x_t, timesteps, and class labels or None."""


class GraphedUNet:
    """Compute a UNet by CUDA graphs where they pay, and otherwise without.

    The first call of each batch size and precision records the graphs. If recording fails, a warning says so, and
    the network is computed without graphs from then on. Gradients with respect to x_t only. Thread-safe.

    :param unet: frozen. If its weights move or change between calls, the graphs are recorded again.
    :param prepared: returns the function to record for a precision: ``unet.predict``, or a compiled one.
    """

    def __init__(self, unet: UNet, prepared: Callable[[torch.dtype], Predict]) -> None:
        self._unet, self._prepared = unet, prepared
        self._lock = threading.Lock()
        self._recordings: dict[Any, _Recording] = {}
        self._weights: tuple[ops.TensorState, ...] = ()
        self._failed = False

    def __call__(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict like :meth:`UNet.forward`."""
        with own_precision(x.device) as asked:
            dtype = self._unet.precision(x, asked)
            if not self._failed and self._suits(x):
                recording = self._recording((x, timesteps, y), dtype)
                if recording is not None:
                    return recording(x, timesteps, y)
            with quiet():  # as in CompiledUNet, which may have made the function
                return self._prepared(dtype)(x, timesteps, y, dtype)

    def _suits(self, x: Tensor) -> bool:
        if x.device.type not in DEVICES or len(x) * x.shape[2:].numel() > LARGEST:
            return False
        return not self._unet.use_checkpoint  # recomputation reads the state of random generators

    def _recording(self, inputs: Inputs, dtype: torch.dtype) -> _Recording | None:
        with self._lock:
            if self._weights != ops.states_of(self._unet):
                self._recordings.clear()
            x, timesteps, y = inputs
            differentiable = torch.is_grad_enabled() and x.requires_grad
            key = (x.shape, x.dtype, x.device, timesteps.dtype, y is None, dtype, differentiable)
            if key not in self._recordings:
                while len(self._recordings) >= KEPT:
                    del self._recordings[next(iter(self._recordings))]
                made = self._record(inputs, dtype, differentiable)
                if made is None:
                    return None
                self._recordings[key] = made
                # Read the state afterwards, because the first evaluation may change the weights' layout.
                self._weights = ops.states_of(self._unet)
            return self._recordings[key]

    def _record(self, inputs: Inputs, dtype: torch.dtype, differentiable: bool) -> _Recording | None:
        reason = ""
        try:
            with quiet():
                return _Recording(self._unet, self._prepared(dtype), inputs, dtype, differentiable)
        except Exception as error:  # whatever the reason, the network can be computed without graphs
            reason = _first_cause(error)
        # Outside the handler: the traceback holds the tensors of the failed recording until it is freed.
        self._failed = True
        torch.cuda.empty_cache()
        logger.warning("recording CUDA graphs failed (%s); continuing without them", reason)
        return None


def _first_cause(error: BaseException) -> str:
    """Return the first error in one line. The error that ends a failed capture does not name the cause."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _collected() -> Iterator[None]:
    """Collect garbage before the block and none inside. Objects that are freed in a capture could disturb it."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Recording:
    """The graphs of one batch size and precision: one for the prediction, one for the gradient with respect to x_t.

    The backward graph reads activations that the forward graph left in memory, and may overwrite them. So it runs
    once, directly after its own forward graph. If another prediction came in between, or the gradient is asked for
    again, the forward graph is repeated first.
    """

    def __init__(
        self, unet: UNet, predict: Predict, inputs: Inputs, dtype: torch.dtype, differentiable: bool
    ) -> None:
        self._predict, self._dtype, self._differentiable = predict, dtype, differentiable
        self._lock = threading.Lock()
        self._latest: object = None
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        device = inputs[0].device
        current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        side.wait_stream(current)
        try:
            # This context also restores the current stream if a capture fails; torch.cuda.graph does not.
            with torch.cuda.device(device), torch.cuda.stream(side), torch.inference_mode(False):
                x, timesteps, y = inputs
                x = x.detach().clone().requires_grad_(differentiable)
                self._inputs: Inputs = (x, timesteps.clone(), None if y is None else y.clone())
                with torch.set_grad_enabled(differentiable):
                    self._warm_up()
                    with _collected():
                        self._capture(side)
        finally:
            current.wait_stream(side)  # for weights that were converted there
        # The graphs hold addresses: keep the weights, and those converted to another precision.
        self._alive = [parameter.detach() for parameter in unet.parameters()], ops.held_by(unet)

    def _warm_up(self) -> None:
        for _ in range(_WARM_UP):
            output = self._evaluate()
            if self._differentiable:
                torch.autograd.grad(output, self._inputs[0], torch.zeros_like(output))

    def _capture(self, side: torch.cuda.Stream) -> None:
        mode = "thread_local"  # other threads may allocate memory during the capture
        with torch.cuda.graph(self._forward, stream=side, capture_error_mode=mode):
            output = self._evaluate()
        self._output = output.detach()
        if self._differentiable:
            self._cotangent = torch.zeros_like(output)
            pool = self._forward.pool()
            with torch.cuda.graph(self._backward, pool=pool, stream=side, capture_error_mode=mode):
                (self._gradient,) = torch.autograd.grad(output, self._inputs[0], self._cotangent)

    def _evaluate(self) -> Tensor:
        return self._predict(*self._inputs, self._dtype)

    def __call__(self, x: Tensor, timesteps: Tensor, y: Tensor | None) -> Tensor:
        """Predict like :meth:`UNet.forward`, for inputs of the recorded shapes."""
        if not self._differentiable:
            return self.predict((x, timesteps, y), None)
        output: Tensor = _Replay.apply(x, timesteps, y, self)
        return output

    def predict(self, inputs: Inputs, call: object) -> Tensor:
        """Return the prediction. ``call`` identifies it for :meth:`gradient`."""
        with self._lock:
            self._replay_forward(inputs, call)
            return self._output.clone()

    def gradient(self, cotangent: Tensor, inputs: Inputs, call: object) -> Tensor:
        """Return the vector-Jacobian product with respect to x_t of the prediction ``call``."""
        with self._lock:
            if self._latest is not call:
                self._replay_forward(inputs, call)
            self._latest = None
            self._cotangent.copy_(cotangent)
            self._backward.replay()
            return self._gradient.clone()

    def _replay_forward(self, inputs: Inputs, call: object) -> None:
        with torch.no_grad():  # x of the recording requires a gradient
            for static, given in zip(self._inputs, inputs, strict=True):
                if static is not None and given is not None:
                    static.copy_(given)
        self._forward.replay()
        self._latest = call


class _Replay(torch.autograd.Function):
    """The prediction of a :class:`_Recording`, with its gradient with respect to x_t."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, timesteps: Tensor, y: Tensor | None, recording: _Recording) -> Tensor:
        ctx.save_for_backward(x, timesteps, y)
        ctx.recording, ctx.call = recording, object()
        return recording.predict((x, timesteps, y), ctx.call)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = ctx.recording.gradient(grad, ctx.saved_tensors, ctx.call)
        return gradient, None, None, None
