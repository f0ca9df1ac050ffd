"""MACE and class discrimination, on a small network that has learnt to tell two lesions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from pipeline.attribution import METHODS, attribute
from pipeline.attribution.mace import (
    FAITHFUL,
    Fidelity,
    MaceState,
    concept_deletion,
    concept_image,
    concept_views,
    fidelity,
    fit_mace,
    load_mace,
)
from pipeline.attribution.mace_bridge import find_bridge
from pipeline.attribution.mace_network import ConceptNetwork, semi_hard_triplets
from pipeline.errors import MethodError
from pipeline.models.graph import capture

SIZE = 24
DISCRIMINATIVE = [name for name, card in METHODS.items() if card.class_discriminative]


class Scenes(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor  # 0 none, 1 stripes across, 2 stripes down
    lesions: torch.Tensor  # (N, 2, H, W)


def scenes(n: int, seed: int, *, both: bool = False) -> Scenes:
    """Noise with a striped lesion: A across, B down; or one of each, apart."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, SIZE, SIZE, generator=generator) * 0.6
    labels = torch.arange(n) % 3
    lesions = torch.zeros(n, 2, SIZE, SIZE, dtype=torch.bool)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    for i in range(n):
        centres = torch.randint(5, SIZE - 5, (2, 2), generator=generator)
        if both:
            centres[:, 1] = torch.tensor([6, SIZE - 7])[torch.randperm(2, generator=generator)]
        for k, along in enumerate((rows, columns)):
            if both or labels[i] == k + 1:
                where = torch.maximum((rows - centres[k, 0]).abs(), (columns - centres[k, 1]).abs()) <= 4
                lesions[i, k] = where
                images[i, 0][where] = 0.3 + 0.7 * (along[where] % 2)
    return Scenes(images - 0.5, labels, lesions)


class Network(nn.Module):
    """Two convolutions and a pooled linear layer."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3)),
            *(nn.Conv2d(10, 12, 3, padding=1), nn.ReLU()),
        )
        self.classifier = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


@pytest.fixture(scope="session")
def network() -> Network:
    """A network that tells the lesions, trained in a few seconds."""
    data = scenes(300, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Network()
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(20):
            for index in torch.randperm(300).split(30):
                optimiser.zero_grad()
                functional.cross_entropy(model(data.images[index]), data.labels[index]).backward()
                optimiser.step()
    test = scenes(90, 2)
    assert (model(test.images).argmax(1) == test.labels).float().mean() > 0.95
    return model.eval()


@pytest.fixture(scope="session")
def state(network: Network) -> MaceState:
    return fit_mace(network, scenes(240, 3).images, epochs=60, learning_rate=1e-3, concepts=5, seed=0)


@pytest.mark.parametrize("name", DISCRIMINATIVE)
def test_the_map_of_a_class_lies_on_its_lesion(name: str, network: Network, state: MaceState) -> None:
    data = scenes(12, 5, both=True)
    options: dict[str, object] = {"state": state} if name == "mace" else {}
    if name == "region_occlusion":
        cells = torch.arange(SIZE) // 4
        options["regions"] = cells[:, None] * 6 + cells + 1
    won = []
    for target in (1, 2):
        values = attribute(network, data.images, target, name, **options).values.sum(1)
        own, other = data.lesions[:, target - 1], data.lesions[:, 2 - target]
        on_own = (values * own).sum((1, 2)) / own.sum((1, 2))
        on_other = (values * other).sum((1, 2)) / other.sum((1, 2))
        won += (on_own > on_other).tolist()
    assert sum(won) >= 21, f"{name}: {sum(won)} of 24 maps lie on the lesion of their class"


def test_faithful_on_images_it_never_saw(network: Network, state: MaceState) -> None:
    measured = fidelity(network, state, scenes(120, 4).images.split(50))
    assert measured.agreement >= FAITHFUL
    assert measured.low < measured.agreement <= measured.high
    assert measured.images == 120
    assert state.faithful
    assert state.fidelity is not None
    assert state.fidelity.images == 48
    untrained = fit_mace(network, scenes(240, 3).images, epochs=1, learning_rate=1e-9, concepts=5)
    assert not untrained.faithful
    assert not Fidelity(0.95, 0.9, 1, 100, 0.95).faithful  # a constant answer would do as well


def test_the_top_concept_matters_more_than_another(network: Network, state: MaceState) -> None:
    data = scenes(60, 6)
    measured = concept_deletion(network, state, data.images)
    assert measured.low > 0
    assert measured.top > measured.other
    swapped = concept_deletion(network, state, data.images[:20], (data.labels[:20] + 1) % 3)
    assert swapped.images == 20


def test_answer(network: Network, state: MaceState) -> None:
    data = scenes(4, 7)
    result = attribute(network, data.images, [0, 1, 2, 1], "mace", state=state)
    maps, terms = result.details["concept_maps"], result.details["concept_relevance"]
    assert maps.shape == (4, 5, 8, 8)
    assert terms.shape == result.details["concept_effect"].shape == (4, 5)
    assert (maps >= 0).all()
    placed = (terms * (maps.flatten(2).sum(2) > 0)).sum(1)
    torch.testing.assert_close(result.values.sum((1, 2, 3)), placed, rtol=1e-4, atol=1e-5)
    assert result.details["agrees"].shape == (4,)
    torch.testing.assert_close(result.scores, network(data.images).detach())
    alone = attribute(network, data.images[2:3], 2, "mace", state=state)
    torch.testing.assert_close(alone.values, result.values[2:3], rtol=1e-4, atol=1e-6)


def test_saved_and_loaded_alike(network: Network, state: MaceState, tmp_path) -> None:
    loaded = load_mace(state.save(tmp_path / "folder" / "mace.safetensors"))
    data = scenes(3, 7)
    before, after = (attribute(network, data.images, 1, "mace", state=s) for s in (state, loaded))
    assert torch.equal(before.values, after.values)
    assert loaded.fidelity == state.fidelity
    assert loaded.grid == state.grid
    with pytest.raises(MethodError, match="does not exist"):
        load_mace(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("no tensors")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    about = {
        "format": "relevance-audit mace 1",
        "mace": json.dumps({"fidelity": None, "grid": [1], "spatial": [1]}),
    }
    save_file({"a": torch.ones(1)}, tmp_path / "wrong.safetensors", metadata=about)
    for name in ("text", "other.safetensors", "wrong.safetensors"):
        with pytest.raises(MethodError, match="is not a MACE state"):
            load_mace(tmp_path / name)


def test_a_state_may_be_given_as_its_file(network: Network, state: MaceState, tmp_path: Path) -> None:
    image = scenes(1, 6).images
    path = state.save(tmp_path / "concepts.safetensors")
    for given in (path, str(path)):
        again = attribute(network, image, 1, "mace", state=given)
        assert torch.equal(again.values, attribute(network, image, 1, "mace", state=state).values)
    with pytest.raises(MethodError, match="does not exist"):
        attribute(network, image, 1, "mace", state="nowhere.safetensors")


def test_same_seed_same_state_and_only_cached_activations(network: Network) -> None:
    losses: list[float] = []

    def once():  # a generator can be read only once: training cannot go back to the images
        yield from scenes(30, 8).images.split(7)

    first = fit_mace(
        network, once(), epochs=2, concepts=2, seed=3, progress=lambda e, n, loss: losses.append(loss)
    )
    again = fit_mace(network, once(), epochs=2, concepts=2, seed=3)
    other = fit_mace(network, once(), epochs=2, concepts=2, seed=4)
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert all(torch.equal(v, again.weights[k]) for k, v in first.weights.items())
    assert not all(torch.equal(v, other.weights[k]) for k, v in first.weights.items())


def test_refusals(network: Network, state: MaceState) -> None:
    data = scenes(12, 9)
    with pytest.raises(MethodError, match="give state=fit_mace"):
        attribute(network, data.images, 1, "mace")
    other = Network().eval()
    with pytest.raises(MethodError, match="other model weights"):
        attribute(other, data.images, 1, "mace", state=state)
    with pytest.raises(MethodError, match="images of"):
        attribute(network, data.images[..., :18], 1, "mace", state=state)
    with pytest.raises(MethodError, match="decides the same"):
        fit_mace(network, data.images[:1].repeat(20, 1, 1, 1))
    with pytest.raises(MethodError, match="labels do not fit"):
        fit_mace(network, data.images, [3] * 12)
    with pytest.raises(MethodError, match="no images"):
        fit_mace(network, [])
    with pytest.raises(MethodError, match="epochs"):
        fit_mace(network, data.images, epochs=0)


def test_everything_but_the_concept_is_black(network: Network, state: MaceState) -> None:
    image, concept = torch.rand(3, 8, 8) + 1, torch.zeros(4, 4)
    concept[1, 2] = 1
    shown = concept_image(image, concept, quantile=0.9)
    kept = (shown != 0).any(0)
    assert 0 < kept.sum() <= 12  # a tenth, and what is as high as the lowest of it
    assert kept[2:4, 4:6].all()
    assert torch.equal(shown[:, kept], image[:, kept])
    assert not concept_image(image, torch.zeros(4, 4)).any()
    views = concept_views(network, state, scenes(2, 7).images[1], (1, 2), top=2)
    assert list(views) == [1, 2]
    for target, concepts in views.items():
        assert [v.target for v in concepts] == [target] * 2
        assert concepts[0].relevance >= concepts[1].relevance
        assert concepts[0].image.shape == (1, SIZE, SIZE)


class Deep(nn.Module):
    """A volume's network with two linear layers, one logit or more."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.below = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten())
        self.above = nn.Sequential(nn.Linear(4 * 27, 9), nn.ReLU(), nn.Linear(9, outputs), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.above(self.below(x))


@pytest.mark.parametrize(("outputs", "exclusive"), [(1, True), (3, False)])
def test_volumes_single_logits_and_several_findings(outputs: int, exclusive: bool) -> None:
    torch.manual_seed(0)
    model, images = Deep(outputs).eval(), torch.randn(40, 1, 8, 8, 8)
    with torch.no_grad():
        logits = model(images).logit()
        model.above[2].bias -= logits.median(0).values
    bridge = find_bridge(capture(model, images))
    assert bridge.exclusive == exclusive
    assert bridge.graph.makers[bridge.target].kind == "relu"
    state = fit_mace(model, images, epochs=3, concepts=3)
    assert (state.classes, state.width, state.grid) == (max(outputs, 2), 9, (6, 6, 6))
    result = attribute(model, images[:2], 1, "mace", state=state)
    assert result.values.shape == (2, 1, 8, 8, 8)
    assert result.details["agrees"].shape == (2,)
    _, vector, scores = bridge.look(images[:5])
    torch.testing.assert_close(bridge.rest(vector), scores)


def test_zeroed_concepts_lose_their_term() -> None:
    torch.manual_seed(1)
    net, activation = ConceptNetwork(4, (3, 3), 2, 3, 5), torch.randn(2, 4, 3, 3)
    whole = net(activation)
    torch.testing.assert_close(whole.embeddings.norm(dim=-1), torch.ones(2, 2, 3))
    torch.testing.assert_close(whole.relevance, whole.terms.sum(-1) + net.relevance_bias)
    without = torch.zeros(2, 2, 3, dtype=torch.bool)
    without[:, 1, 2] = True
    less = net(activation, without)
    torch.testing.assert_close(whole.relevance[:, 1] - less.relevance[:, 1], whole.terms[:, 1, 2])
    torch.testing.assert_close(whole.relevance[:, 0], less.relevance[:, 0])


def test_triplets_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    e = functional.normalize(torch.randn(14, 4, generator=generator), dim=1)
    labels = torch.arange(14) % 4
    losses = []
    for a in range(14):
        for p in range(14):
            if a == p or labels[a] != labels[p]:
                continue
            near = float((e[a] - e[p]).square().sum())
            rivals = [float((e[a] - e[n]).square().sum()) for n in range(14) if labels[n] != labels[a]]
            farther = [d for d in rivals if d > near]
            losses.append(max(0.0, near - (min(farther) if farther else max(rivals)) + 1))
    torch.testing.assert_close(
        float(semi_hard_triplets(e, labels)), sum(losses) / len(losses), rtol=1e-5, atol=1e-6
    )
    assert float(semi_hard_triplets(e, torch.zeros(14, dtype=torch.int64))) == 0
