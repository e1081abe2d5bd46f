"""What must hold of every task."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from goaldriven.errors import DataError, SpecError
from goaldriven.heads import Contrastive, Readout, Reconstruction
from goaldriven.specs import TASKS
from goaldriven.tasks import LOADERS, Batch, load


class Small(nn.Module):
    """A network with the parts whose mode matters and as many outputs as the head wants."""

    def __init__(self, task):
        super().__init__()
        wanted = task.head
        n = wanted.projection if isinstance(wanted, Contrastive) else wanted.n_outputs
        n_in = int(np.prod(task.input_shape))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.hidden = nn.Linear(n_in, 16)
            self.norm = nn.BatchNorm1d(16)
            self.dropout = nn.Dropout(0.5)
            self.out = nn.Linear(16, n)

    def features(self, x):
        return self.dropout(self.norm(self.hidden(x.flatten(1))).relu())

    def forward(self, x):
        return self.out(self.features(x))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tensors(batches):
    return [t for b in batches for t in (b.stimuli, b.labels)]


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_every_specified_task_has_a_loader():
    assert LOADERS.keys() == TASKS.keys()


def test_description(task_spec):
    task = load(task_spec())
    assert task.spec == task_spec()
    metric, chance, head = {
        "digits_simclr": ("linear readout accuracy", 0.1, Contrastive(128)),
        "imagenet_simclr": ("linear readout accuracy", 0.1, Contrastive(128)),
        "digits_autoencoder": ("variance explained", 0.0, Reconstruction(64, bottleneck=2)),
    }.get(task.spec.name, ("accuracy", 0.1, Readout(10)))
    assert (task.metric_name, task.chance, task.head) == (metric, chance, head)
    assert load(task_spec()) is task, "tasks are kept"
    if task.spec.available_train is not None:
        assert task.n_train == task.spec.available_train


def test_training_batches(task_spec):
    task = load(task_spec())
    batches = list(task.train_batches(16, generator()))
    views = 2 if isinstance(task.head, Contrastive) else 1
    assert len(batches) == task.n_train // 16, "the last incomplete batch is dropped"
    for batch in batches:
        assert len(batch) == 16
        assert batch.stimuli.shape == (views * 16, *task.input_shape)
        assert batch.stimuli.dtype == torch.float32
        assert batch.stimuli.isfinite().all()
        assert batch.labels.shape == (16,)
        assert batch.labels.dtype == torch.int64


def test_an_epoch_shows_every_stimulus_once(task_spec):
    """With batches of one there is no remainder: the labels are all labels."""
    task = load(task_spec(train_limit=40))
    seen = torch.cat([b.labels for b in task.train_batches(1, generator())])
    assert (torch.bincount(seen, minlength=10) == 4).all(), "and limits keep classes balanced"
    again = torch.cat([b.labels for b in task.train_batches(1, generator(1))])
    assert not torch.equal(seen, again), "in an order that the generator sets"


def test_generator_decides_everything(task_spec):
    task = load(task_spec())
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = tensors(task.train_batches(16, generator(3)))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert same(one, tensors(task.train_batches(16, generator(3))))
    assert not same(one, tensors(task.train_batches(16, generator(4))))
    stream = generator(3)
    first = tensors(task.train_batches(16, stream))
    assert same(one, first)
    assert not same(first, tensors(task.train_batches(16, stream))), "epochs differ"


def test_batches_may_be_changed_without_harm(task_spec):
    task = load(task_spec())
    one = tensors(task.train_batches(16, generator()))
    for batch in task.train_batches(16, generator()):
        batch.stimuli.zero_()
    assert same(one, tensors(task.train_batches(16, generator())))


@pytest.mark.parametrize("size", [0, -1, 10_000])
def test_impossible_batch_sizes_are_refused_at_once(task_spec, size):
    task = load(task_spec())
    with pytest.raises(SpecError) as caught:
        task.train_batches(size, generator())
    assert str(caught.value) == (
        f"batch_size must be between 1 and the {task.n_train} training stimuli of task "
        f"{task.spec.name}, got {size}"
    )


def test_validation_stimuli_do_not_depend_on_batch_size_or_call(task_spec):
    task = load(task_spec())
    whole = torch.cat(list(task.validation_batches(7)))
    assert whole.shape == (task.n_validation, *task.input_shape)
    assert whole.dtype == torch.float32
    assert torch.equal(whole, torch.cat(list(task.validation_batches(task.n_validation))))
    objective = list(task.validation_objective_batches(7))
    assert sum(len(b) for b in objective) == task.n_validation
    assert same(tensors(objective), tensors(task.validation_objective_batches(7)))
    if task.metric_name == "accuracy":
        assert torch.equal(whole, torch.cat([b.stimuli for b in objective]))


def test_limits_keep_the_beginning_of_one_order(task_spec):
    large, small = (load(task_spec(train_limit=40, validation_limit=n)) for n in (20, 8))
    stimuli = [torch.cat(list(t.validation_batches(5))) for t in (large, small)]
    assert [len(s) for s in stimuli] == [20, 8]
    assert torch.equal(stimuli[0][:8], stimuli[1])


@pytest.mark.parametrize("field", ["train_limit", "validation_limit"])
def test_limits_beyond_the_data_are_refused(task_spec, field):
    with pytest.raises(DataError, match=rf"{field} must be at most the \d+ .* got 99999"):
        load(task_spec(**{field: 99_999}))


def test_modes_come_back_and_gradients_are_off(task_spec):
    task = load(task_spec())
    model = Small(task)
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = []
    model.out.register_forward_hook(lambda m, i, o: modes.append((m.training, o.requires_grad)))
    model.dropout.register_forward_hook(lambda m, i, o: modes.append((m.training, False)))
    values = [
        (task.validation_loss(model, 32), task.metric(model, 32), task.evaluate(model, 32))
        for _ in range(2)
    ]
    assert values[0] == values[1], "nothing random"
    assert (values[0][2].loss, values[0][2].metric) == values[0][:2]
    assert set(modes) == {(False, False)}
    assert model.training
    assert model.dropout.training
    assert not model.norm.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_modes_come_back_after_an_error(task_spec):
    task = load(task_spec())
    model = Small(task)
    model.hidden = nn.Linear(3, 3)
    with pytest.raises(RuntimeError):
        task.metric(model, 32)
    assert all(m.training for m in model.modules())
    assert torch.is_grad_enabled()


def test_validation_loss_weighs_stimuli_equally(task_spec):
    """Uneven batches: the mean over batches, weighted by their numbers of stimuli."""
    task = load(task_spec())
    model = Small(task).eval()
    batches = list(task.validation_objective_batches(11))
    assert len(batches[-1]) != 11
    with torch.no_grad():
        losses = [task.loss(model, b).item() for b in batches]
    expected = np.average(losses, weights=[len(b) for b in batches])
    assert task.validation_loss(model, 11) == pytest.approx(expected, rel=1e-5)


def test_loss_is_a_scalar_mean_with_gradients(task_spec):
    task = load(task_spec())
    model = Small(task)
    batch = next(iter(task.train_batches(16, generator())))
    loss = task.loss(model, batch)
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.out.parameters() if p.ndim == 2)


def test_losses_are_those_of_stimuli_where_they_have_any(task_spec):
    task = load(task_spec())
    model = Small(task).eval()
    batch = next(iter(task.train_batches(16, generator())))
    losses = task.losses(model, batch)
    torch.testing.assert_close(losses.mean(), task.loss(model, batch))
    if isinstance(task.head, Contrastive):
        assert losses.shape == ()
        return
    assert losses.shape == (16,)
    alone = Batch(batch.stimuli[3:4], batch.labels[3:4])
    torch.testing.assert_close(losses[3], task.loss(model, alone))


def test_a_diverged_network_has_no_metric(task_spec):
    task = load(task_spec())
    model = Small(task)
    nn.init.constant_(model.hidden.weight, torch.nan)
    assert np.isnan(task.metric(model, 32))
    assert np.isnan(task.evaluate(model, 32).metric)


@pytest.mark.parametrize("name", ["digits", "spoken_digits"])
def test_supervised_loss_and_accuracy_against_numpy(name):
    task = load(TASKS[name]())
    model = Small(task).eval()
    with torch.no_grad():
        logits = model(torch.cat(list(task.validation_batches(64)))).double().numpy()
    labels = torch.cat([b.labels for b in task.validation_objective_batches(64)]).numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_p[np.arange(len(labels)), labels].mean()
    assert task.validation_loss(model, 64) == pytest.approx(expected, rel=1e-6)
    assert task.metric(model, 64) == (logits.argmax(1) == labels).mean()
    batch = next(iter(task.train_batches(16, generator())))
    with torch.no_grad():
        loss = task.loss(model, batch)
        assert loss == functional.cross_entropy(model(batch.stimuli), batch.labels)
