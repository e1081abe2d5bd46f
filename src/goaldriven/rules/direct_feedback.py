"""Direct feedback alignment: the output's error reaches every layer by weights of its own.

Let e be the gradient at the network's output (n, n_out): at the output of the layer that is called
last in a forward pass. The gradient at every tensor x (n, *features) that enters a layer becomes

    ∂L/∂x = e D,   D (n_out, *features) fixed, Xavier-uniform × gain,

and goes on from there by the exact derivatives of what lies between x and the layer below it:
non-linearities, pooling, batch norm, sums. dW and db of a layer are exact, given the gradient at
its output. The *total* gradient at x is replaced: where x also feeds a skip connection, what comes
down there is cut off; layers that read the same x have one D, that of the first. Where x needs no
gradient, as a network's input, there is no D.

There is one output, and one error: of a model with several heads each layer below would learn from
the head that is called last alone. So a loss on which another layer bears otherwise than through
the layer called last (a second head, a penalty on hidden activity) is refused by
`DirectFeedbackAlignment.backward`. Backward passes that a loop makes by itself are not checked.

No layer computes the gradient at its input, so a step costs less than one of backprop. The price is
memory: n_out times the features of all these inputs.

Source: Nøkland 2016.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import unserializable_hook
from torch.utils.weak import WeakTensorKeyDictionary

from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules.base import Closure
from goaldriven.rules.feedback import Carrier, LayerFeedback, Switch
from goaldriven.rules.feedback_alignment import AttachedLayers
from goaldriven.rules.forward_passes import Call, ForwardPass, Passes, WholeModel
from goaldriven.rules.linear_maps import channels_last, rows
from goaldriven.rules.state import check_state, copies
from goaldriven.specs import credit as specs

BUFFER = "direct_feedback"
"""Name of the non-persistent buffer that holds D, on the layer whose input it is for."""


_NAME = "direct_feedback_alignment"


@unserializable_hook
class Cut:
    """What replaces the gradient at one tensor, as a hook on it."""

    def __init__(self, x: Tensor, features: tuple[int, ...]) -> None:
        self.shape, self.features, self.version = x.shape, features, x._version
        self.channels_last = channels_last(x)
        self._readers: list[tuple[weakref.ref[ForwardPass], DirectLayer]] = []

    def owner(self, during: ForwardPass) -> DirectLayer | None:
        """The layer whose D is this tensor's in a pass: the first that read it."""
        return next((owner for ref, owner in self._readers if ref() is during), None)

    def add(self, during: ForwardPass, owner: DirectLayer) -> None:
        alive = [(ref, other) for ref, other in self._readers if ref() is not None]
        self._readers = [*alive, (weakref.ref(during), owner)]

    def __call__(self, gradient: Tensor) -> Tensor | None:
        if any(owner.switch.exact for _, owner in self._readers):
            return None
        read = [(during, owner) for ref, owner in self._readers if (during := ref()) is not None]
        parts = [owner.project(during.error, self) for during, owner in read if during.returning]
        if not parts:
            raise SpecError(NO_ERROR)
        return sum(parts[1:], parts[0]).to(gradient.dtype)


NO_ERROR = (
    "loss must depend on the output of the layer that is called last in the model's forward pass, "
    "whose error direct feedback alignment feeds back, got one whose backward pass comes elsewhere "
    "first"
)
_cuts = WeakTensorKeyDictionary()


class Stop(Carrier):
    """An error stops here. What goes on is zeros that take no memory, for a hook to replace."""

    buffers = (BUFFER,)

    def replacement(self, x: Tensor) -> Tensor:
        return x.new_zeros(()).expand(x.shape)


class DirectLayer(LayerFeedback):
    """The forward pass of one layer under direct feedback alignment.

    ``seed`` and ``gain``: of its D, which is drawn when first needed, as its size is not known
    before.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        rectified: bool,
        switch: Switch,
        passes: Passes,
        seed: int,
        gain: float,
    ) -> None:
        super().__init__(module, Stop(), name, rectified, switch)
        self.passes, self.seed, self.gain = passes, seed, gain

    @torch.compiler.disable
    def __call__(self, input: Tensor) -> Tensor:
        output: Tensor = self.plain(input)
        hanging = output.requires_grad and torch.is_grad_enabled()
        during = self.passes.current()
        if during is None and hanging:
            raise SpecError(
                "model must be called as a whole under direct feedback alignment, got a call of "
                f"its layer {self.name!r} by itself"
            )
        if during is None:
            return output
        if hanging:
            return self._join(during, input, output)
        if during.grad and not torch.is_grad_enabled():  # as reentrant checkpointing begins
            during.reentrant = True
            self.passes.called(during, self.name, 1)
            if not input.is_inference():
                self._read(during, input)
        return output

    def _join(self, during: ForwardPass, x: Tensor, output: Tensor) -> Tensor:
        passes = self.passes
        call = passes.called(during, self.name, len(self.linear_map.batched(x, output)[1]))
        if x.requires_grad:
            x = self._read(during, x)
        output = self.hang(x, output, self.carrier)
        note_call(output, during, call)
        output.register_hook(lambda gradient: passes.receive(during, call, gradient))
        return output

    def _read(self, during: ForwardPass, x: Tensor) -> Tensor:
        """See to it that the gradient at ``x`` is replaced; returns what the layer is to read."""
        again, cut = self.passes.again, _cuts.get(x)
        known = cut is not None and cut.version == x._version
        if known and again:
            return x
        if not known:
            cut = _cuts[x] = Cut(x, self._features(x))
        owner = cut.owner(during)
        first = owner is None
        if owner is None:
            owner = self.passes.owners.get(self.name, self) if again else self
            cut.add(during, owner)
        if not again:
            self.passes.owners[self.name] = owner
        owner.check(cut.features)
        if not x.requires_grad:
            return x
        _refuse_compiled(x, self.name)
        if x.is_leaf and not again:
            return self._read_leaf(during, x) if first else x
        if not known:
            x.register_hook(cut)
        return x

    def _read_leaf(self, during: ForwardPass, x: Tensor) -> Tensor:
        """A leaf outlives the pass and its hooks; so the hook is on an alias that does not."""
        alias = x.view_as(x)
        cut = Cut(alias, self._features(x))
        cut.add(during, self)
        alias.register_hook(cut)
        return alias

    def _features(self, x: Tensor) -> tuple[int, ...]:
        return tuple(self.linear_map.batched(x, x)[0].shape[1:])

    def check(self, features: tuple[int, ...]) -> None:
        """Refuse inputs of another shape than D's."""
        weights = self.module._buffers.get(BUFFER)
        if weights is not None and tuple(weights.shape[1:]) != features:
            raise SpecError(
                f"input of layer {self.name!r} must have the shape {tuple(weights.shape[1:])} per "
                "sample, for which its direct feedback weights were drawn, got "
                f"{features}"
            )

    def project(self, error: Tensor | None, cut: Cut) -> Tensor:
        """e D, in the shape and the memory layout of the tensor that is cut."""
        if error is None:
            raise SpecError(NO_ERROR)
        samples = math.prod(cut.shape) // math.prod(cut.features)
        if len(error) != samples:
            raise SpecError(
                "model must have as many rows of output as of input to every layer under direct "
                f"feedback alignment, got {len(error)} at the output and {samples} at the input of "
                f"layer {self.name!r}"
            )
        weights = self.weights(error.shape[1], cut.features, cut.channels_last)
        return feed_back(error, weights).reshape(cut.shape)

    def weights(self, n_out: int, features: tuple[int, ...], innermost: bool) -> Tensor:
        """D, drawn now if it is not yet, with the channels innermost in memory or not."""
        weights = self.module._buffers.get(BUFFER)
        if weights is None:
            weights = self._draw(n_out, features)
        elif len(weights) != n_out:
            raise SpecError(
                f"model must have {len(weights)} outputs per sample, for which the direct feedback "
                f"weights of layer {self.name!r} were drawn, got {n_out}"
            )
        elif channels_last(weights) == innermost:
            return weights
        if innermost:
            weights = weights.movedim(1, -1).contiguous().movedim(-1, 1)
        else:
            weights = weights.contiguous()
        self.keep(weights)
        return weights

    def _draw(self, n_out: int, features: tuple[int, ...]) -> Tensor:
        like: Tensor = self.module.weight  # type: ignore[assignment]
        size = math.prod(features)
        bound = self.gain * math.sqrt(6 / (n_out + size))
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.empty((n_out, size), dtype=like.dtype)
        drawn.uniform_(-bound, bound, generator=generator)
        return drawn.view(n_out, *features).to(like.device)

    def forget(self) -> None:
        """Have D drawn anew when it is next needed."""
        self.module._buffers.pop(BUFFER, None)

    def keep(self, weights: Tensor) -> None:
        """Make ``weights`` the layer's D."""
        self.module.register_buffer(BUFFER, weights, persistent=False)


def feed_back(error: Tensor, weights: Tensor) -> Tensor:
    """e D (n, *features), in the memory layout of D."""
    product = error.mm(rows(weights).to(error.dtype))
    if channels_last(weights):
        channels, *space = weights.shape[1:]
        return product.view(len(error), *space, channels).movedim(-1, 1)
    return product.view(len(error), *weights.shape[1:])


def _refuse_compiled(x: Tensor, layer: str) -> None:
    """Refuse a tensor made by compiled code, where uses of it may be that no hook on it can cut."""
    node = x.grad_fn
    while node is not None:
        if type(node).__name__.startswith("CompiledFunction"):
            raise SpecError(
                "model must be compiled as a whole, or not at all, under direct feedback "
                f"alignment, got the input of layer {layer!r} from a part that is compiled"
            )
        before = node.next_functions
        node = before[0][0] if len(before) == 1 and "View" in type(node).__name__ else None


def note_call(output: Tensor, during: ForwardPass, call: Call) -> None:
    """Leave a call on its node in the graph, which stays there if the output changes in place."""
    node: Any = output.grad_fn
    if not hasattr(node, "carrier"):  # the output is a view of the node's
        node = node.next_functions[0][0]
    node.direct_call = (during, call)


def refuse_other_outputs(loss: Tensor) -> None:
    """Refuse a loss that does not depend on layers through the last one alone."""
    nodes, seen = [loss.grad_fn], {None}
    while nodes:
        node: Any = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        noted: tuple[ForwardPass, Call] | None = getattr(node, "direct_call", None)
        if noted is None:
            nodes += [before for before, _ in node.next_functions]
            continue
        (during, call), last = noted, noted[0].last
        if last is not None and call is not last and not during.reentrant:
            raise SpecError(
                "loss must depend on the model through the layer alone that is called last in its "
                f"forward pass, {last.layer!r}, whose error direct feedback alignment feeds "
                f"back, got one that depends on layer {call.layer!r} otherwise"
            )


class DirectFeedbackAlignment(AttachedLayers):
    """The output's error, fed back to every layer's input by fixed random weights of its own.

    See the module's docstring for what is replaced. ``generator`` draws a seed per layer, and each
    D is drawn from its seed at the first backward pass, when the sizes of inputs and output are
    known. Outputs are those of the plain model to the bit; it must be called as a whole, for then
    it is known which layer is called last. A layer that is called more than once in a forward pass
    has one D. A gradient at a leaf that the model is given is that of the layers reading it alone.

    Under ``torch.compile`` the model itself runs uncompiled, as one graph break: hooks on tensors
    cannot cut what is inside compiled code. With reentrant checkpointing of the last layer, call
    the model once per backward pass.

    Source: Nøkland 2016.

    Raises
    ------
    SpecError : the model has weights of a kind that cannot be attached to, or is attached already.
        In a forward pass: an input has another size than at first. In a backward pass: the loss
        does not depend on the last layer's output, or in `backward` not on it alone; or rows of
        output and input do not correspond.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None,
        generator: torch.Generator,
        spec: specs.DirectFeedbackAlignment,
    ) -> None:
        super().__init__(model, layers)
        shape, device = (len(self._found),), generator.device
        seeds = torch.randint(2**62, shape, generator=generator, device=device).tolist()
        passes = Passes()
        self._layers = {
            name: DirectLayer(module, name, rectified, self._switch, passes, seed, spec.gain)
            for (name, module, rectified), seed in zip(self._found, seeds, strict=True)
        }
        WholeModel(model, passes)

    def backward(self, closure: Closure) -> Tensor:
        def checked() -> Tensor:
            loss = closure()
            if isinstance(loss, Tensor):
                refuse_other_outputs(loss)
            return loss

        return super().backward(checked)

    @property
    def direct_layers(self) -> Mapping[str, DirectLayer]:
        """What has taken the place of the layers' forward passes."""
        return self._layers

    @property
    def feedback_weights(self) -> dict[str, Tensor]:
        """Layer → D (n_out, *features) of its input, of those drawn so far."""
        found = ((n, m._buffers.get(BUFFER)) for n, m in self._modules.items())
        return {name: weights for name, weights in found if weights is not None}

    @property
    def reroutes_errors(self) -> bool:
        return True

    def alignment_diagnostics(self) -> dict[str, tuple[float, float]]:
        """Layer → (NaN, NaN): D does not correspond to the layer's W."""
        return dict.fromkeys(self._modules, (math.nan, math.nan))

    def state_dict(self) -> dict[str, Any]:
        return {
            "credit": _NAME,
            "seeds": {name: layer.seed for name, layer in self._layers.items()},
            "feedback_weights": copies(self.feedback_weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, _NAME, {"seeds", "feedback_weights"})
        seeds, weights = state["seeds"], state["feedback_weights"]
        if seeds.keys() != self._layers.keys() or not weights.keys() <= seeds.keys():
            raise SpecError(
                f"state must be of direct feedback to the layers {sorted(self._layers)}, got "
                f"{sorted({*seeds, *weights})}"
            )
        own = self.feedback_weights
        for name in own.keys() & weights.keys():
            if own[name].shape != weights[name].shape:
                raise SpecError(
                    f"state must hold direct feedback weights of shape {tuple(own[name].shape)} "
                    f"for layer {name!r}, got {tuple(weights[name].shape)}"
                )
        for name, layer in self._layers.items():
            layer.seed = seeds[name]
            layer.forget()
            if name in weights:
                layer.keep(weights[name].detach().to(layer.module.weight, copy=True))
