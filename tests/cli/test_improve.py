"""e2mc improve: what it sees, what it writes, what it refuses, and a verdict from a real run."""

from __future__ import annotations

import json
import re
import shutil
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import published
import pytest
import torch
import trees
from PIL import Image

from e2mc.checkpoints.keys import KeyMap
from e2mc.checkpoints.looking import look_at_model
from e2mc.cli.improve import _exported
from e2mc.cli.main import main
from e2mc.data.looking import Counted
from e2mc.reporting import made
from e2mc.steps.checkpoints import conversion_task
from e2mc.steps.data import check_data, index_task
from e2mc.steps.evaluation import evaluation_task
from e2mc.steps.training import training_task
from e2mc.study import Run, load_study, read_config
from e2mc.study.draft import Facts, draft, name_of

timm = pytest.importorskip("timm")

NETWORK = "timm:test_resnet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of a small timm network, behind a prefix, with a classifier and an epoch beside it."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3)
    state = {f"module.encoder.{key}": value for key, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp("model") / "Mine (1).pth"
    torch.save({"state_dict": state | {"steps": 7}, "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return trees.imagenet(tmp_path_factory.mktemp("images") / "birds", classes=3, train=40, val=12)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Where the command is called: a Snakefile and a folder of studies."""
    (tmp_path / "Snakefile").touch()
    (tmp_path / "studies").mkdir()
    shutil.copy(Path(__file__).parents[2] / "config.yaml", tmp_path)
    monkeypatch.setattr("e2mc.cli.improve.MEASURING", 0.1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def improve(weights, images, *more):
    words = ["improve", str(weights), "--backbone", NETWORK, "--images", str(images)]
    return main([*words, "--write-only", *more])


def test_model_is_found_behind_its_prefix(weights):
    keys, said = look_at_model(weights, NETWORK)
    assert keys.entry == "state_dict"
    assert keys.prefixes == {"module.encoder.": "backbone."}
    assert set(keys.drop) == {"module.encoder.fc.", "steps"}
    assert "under 'state_dict' behind 'module.encoder.'; left out" in said


def test_the_study_that_is_written_is_one(weights, images, checkout, capsys):
    assert improve(weights, images) == 0
    said = capsys.readouterr()
    assert "studies/birds-mine-1.yaml is written" in said.out
    assert "first weights of E2MC: entropy_weight " in said.err
    study = load_study("birds-mine-1")
    assert (study.data.sets["images"].validation, study.data.training_count) == (12, 108)
    assert study.bases["model"].method.name == "anchor"
    assert study.data.sets["images"].view.size == 32
    [criterion] = study.training_spec(study.runs(study.tables["table1"].rows)[-1]).criteria
    assert criterion.params["entropy_weight"] > 0
    # again: the same file; with other epochs: not written over without --force
    assert improve(weights, images) == 0
    assert improve(weights, images, "--epochs", "3") == 1
    assert "exists and is another study: choose another --name" in capsys.readouterr().err
    assert improve(weights, images, "--epochs", "3", "--force") == 0
    assert load_study("birds-mine-1").bases["model"].continued.epochs == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: {"model": values(folder)}, r"no weights|holds no"),
        (lambda folder: {"model": other_network(folder)}, r"has not .* it looks like a ResNet-18"),
        (lambda folder: {"--images": other_classes(folder)}, r"are in only one of them, e\.g\. n"),
        (
            lambda folder: {"--images": folder / "empty"},
            r"empty is neither a folder that is there nor",
        ),
        (lambda folder: {"--images": half(folder)}, r"half has val/ and no train/: call the"),
        (lambda folder: {"--images": "cifar"}, r"did you mean CIFAR10 or CIFAR100\?"),
        (
            lambda folder: {"--images": "MNIST"},
            r"takes images of 3 channels \(conv1\S*\), these ha",
        ),
        (lambda folder: {"--images": few(folder)}, r"nor 20 images .* \(found 3\): sort them"),
        (lambda folder: {"--backbone": "torchvision:resnet18"}, r"has not the weights of torch"),
        (lambda folder: {"--backbone": "timm:nothing"}, r"timm has no model 'nothing'"),
        (lambda folder: {"--images": folder / "nowhere"}, r"nowhere is neither a folder"),
        (lambda folder: {"--images": one_class(folder)}, r"one has one class, n00000000"),
        (lambda folder: {"--images": no_val(folder)}, r"class n00000001 has no images in .*/val"),
        (lambda folder: {"--images": tiny(folder)}, r"have 1 pixels on their shorter side"),
        (lambda folder: {"--images": alone(folder)}, r"has 1 training image of class n00000001"),
        (lambda folder: {"model": text(folder)}, r"notes\.pth "),
        (lambda folder: {"model": part(folder)}, r"has not the weights of|lacks \d+ of the"),
        (lambda folder: {"model": broken(folder)}, r"is not finite: take an earlier file"),
        (lambda folder: {"--name": "A B"}, r"--name 'A B': expected small letters"),
        (lambda folder: {"--epochs": "0"}, r"--epochs must be .* at least 1, found 0"),
    ],
)
def test_what_cannot_be_improved_is_refused(
    spoil, message, weights, images, checkout, capsys, tmp_path
):
    given = {"model": weights, "--backbone": NETWORK, "--images": images} | spoil(tmp_path)
    model = given.pop("model")
    options = [str(word) for pair in given.items() for word in pair]
    assert main(["improve", str(model), *options, "--write-only"]) == 1
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert "Traceback" not in said and not list(Path("studies").iterdir())


def values(folder):
    torch.save({"epoch": 3, "loss": [0.1, 0.2]}, folder / "values.pth")
    return folder / "values.pth"


def other_network(folder):
    torch.save(timm.create_model("resnet18").state_dict(), folder / "other.pth")
    return folder / "other.pth"


def other_classes(folder):
    made = trees.imagenet(folder / "differ", classes=3)
    (made / "val/n00000001").rename(made / "val/n00000009")
    return made


def half(folder):
    made = trees.imagenet(folder / "half", classes=2)
    shutil.rmtree(made / "train")
    return made


def few(folder):
    return flat(folder / "few", 3)


def flat(folder, count):
    """Images without labels."""
    for number in range(count):
        trees.write_jpeg(folder / f"{number}.jpg", number, shade=number % 255)
    return folder


def one_class(folder):
    return trees.imagenet(folder / "one", classes=1, train=4)


def no_val(folder):
    made = trees.imagenet(folder / "gone", classes=2)
    for file in (made / "val/n00000001").iterdir():
        file.unlink()
    return made


def tiny(folder):
    made = trees.imagenet(folder / "tiny", classes=2)
    for number, file in enumerate(made.rglob("*.JPEG")):
        Image.new("RGB", (1, 1), (number, 0, 0)).save(file, "JPEG")
    return made


def alone(folder):
    made = trees.imagenet(folder / "alone", classes=2)
    for file in sorted((made / "train/n00000001").iterdir())[1:]:
        file.unlink()
    return made


def text(folder):
    (folder / "notes.pth").write_text("weights are on the other disk")
    return folder / "notes.pth"


def part(folder):
    state = timm.create_model("test_resnet").state_dict()
    kept = dict(list(state.items())[: len(state) // 2])
    torch.save(kept, folder / "part.pth")
    return folder / "part.pth"


def broken(folder):
    state = timm.create_model("test_resnet").state_dict()
    state["conv1.0.weight" if "conv1.0.weight" in state else "conv1.weight"][0, 0, 0, 0] = torch.nan
    torch.save(state, folder / "broken.pth")
    return folder / "broken.pth"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone/better.pth", r"folder gone does not exist: make it"),
        ("better.pt", r"better\.pt: expected a name that ends in \.safetensors or \.pth"),
        ("there.pth", r"there\.pth is there already: choose another name, or give --force"),
        ("card.pth", r"card\.md is there already"),
        ("full.pth", r"full\.pth: its disk has 0 MB left, the weights take "),
        ("folder.pth", r"folder\.pth is a folder"),
    ],
)
def test_an_export_that_cannot_be_is_refused_before_anything_runs(
    name, message, weights, images, checkout, capsys, monkeypatch
):
    for there in ("there.pth", "card.md"):
        (checkout / there).write_text("mine")
    (checkout / "folder.pth").mkdir()
    if name.startswith("full"):
        usage = shutil.disk_usage(checkout)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr("e2mc.cli.improve._look", lambda *_: pytest.fail("looked"))
    words = ["improve", str(weights), "--backbone", NETWORK, "--images", str(images)]
    assert main([*words, "--export", name]) == 1
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert (checkout / "there.pth").read_text() == "mine"


def test_a_disk_without_room_for_the_checkpoints(weights, images, checkout, capsys, monkeypatch):
    usage = shutil.disk_usage(checkout)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert improve(weights, images) == 1
    assert "this disk has 0.0 GB left: free some space" in capsys.readouterr().err
    assert not list(Path("studies").iterdir())


def test_images_without_labels(weights, checkout, capsys):
    folder = flat(checkout / "photos", 60)
    assert improve(weights, folder, "--name", "photos") == 0
    said = capsys.readouterr().err
    assert "no labels, 48 training and 12 held-out images" in said
    study = load_study("photos")
    images = study.data.sets["images"]
    assert (images.format, images.classes, images.train, images.test) == ("unlabelled", 1, 48, 12)
    assert not study.paradigms and not study.tables
    assert study.evaluation_jobs()["evaluate_frozen"] == ("embeddings",)
    assert list(made(study)) == ["embeddings"]


def divided(checkout, _):
    """One folder of classes."""
    folder = trees.imagenet(checkout / "images/birds", classes=3, train=20, val=0) / "train"
    return folder, f"format: folder\n      folder: {json.dumps(str(folder))}"


def in_three_parts(checkout, _):
    folder = trees.imagenet(checkout / "images/birds", classes=3, train=20, val=5)
    for number in range(15):
        shade = trees.shade_of(number % 3, 3)
        trees.write_jpeg(folder / f"test/n{number % 3:08d}/{number}.jpg", 99 + number, shade)
    return folder, f"format: folder\n      folder: {json.dumps(str(folder))}"


def parquet(checkout, _):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    folder = checkout / "images"
    for part, count in (("train", 60), ("test", 15)):
        trees.write_jpeg(checkout / "a.jpg", count)
        image = {"bytes": (checkout / "a.jpg").read_bytes(), "path": None}
        table = pyarrow.table({"image": [image] * count, "label": [0, 1, 2] * (count // 3)})
        path = folder / f"data/{part}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(table, path)
    return folder, f"format: parquet\n      folder: {json.dumps(str(folder))}"


def cifar10(checkout, monkeypatch):
    """As a data set of torchvision that lies where config.yaml says."""
    published.cifar10(checkout / "sets", monkeypatch, train=60, test=20)
    set_folder(checkout)
    return "cifar10", "dataset: torchvision"


def set_folder(checkout):
    path = checkout / "config.yaml"
    path.write_text(re.sub("torchvision: null", f"torchvision: {checkout}/sets", path.read_text()))


@pytest.mark.parametrize(
    ("made", "counts"),
    [
        (divided, (3, 48, 12, 5)),
        (in_three_parts, (3, 75, 15, 15)),
        (parquet, (3, 60, 15, 6)),
        (cifar10, (10, 60, 20, 10)),
    ],
)
def test_every_form_of_images(made, counts, weights, checkout, monkeypatch, capsys):
    folder, written = made(checkout, monkeypatch)
    assert improve(weights, folder, "--name", "forms") == 0, capsys.readouterr().err
    text = Path("studies/forms.yaml").read_text()
    assert written in text
    study = load_study("forms")
    images = study.data.every["images"]
    assert (images.classes, images.train, images.test, images.validation) == counts
    # the workflow reads the same
    [line] = check_data(study, read_config())
    learnt_from = images.train - images.validation
    assert f"{counts[0]} classes, {learnt_from} training, {counts[3]} validation and" in line
    assert improve(weights, folder, "--name", "forms") == 0
    assert Path("studies/forms.yaml").read_text() == text


def test_what_torchvision_has_not_here_is_refused(weights, checkout, monkeypatch, capsys):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert improve(weights, "cifar10") == 1
    assert "CIFAR10 is in no folder of this machine and could not be" in capsys.readouterr().err
    assert not list(Path("studies").iterdir())


def test_the_cost_is_said_before(weights, images, checkout, capsys):
    assert improve(weights, images, "--cores", "6") == 0
    told = capsys.readouterr()
    cost = told.err.index("this will take about ")
    assert cost < told.err.index("first weights of E2MC")
    words = r"about [\d.]+ (minutes|hours) and 0\.\d\d GB of disk here: 7 models, images/s: anchor "
    assert re.search(words, told.err)
    assert "--set-threads continue_pretraining=2 evaluate_frozen=2" in told.out


def test_weights_that_somebody_changed_stay(weights, images, checkout, capsys, monkeypatch):
    assert improve(weights, images) == 0
    path = Path("studies/birds-mine-1.yaml")
    text = re.sub(r"entropy_weight: [\d.e-]+", "entropy_weight: 0.123", path.read_text())
    path.write_text(text)
    monkeypatch.setattr("e2mc.steps.first_weights.first_weights", lambda *_: pytest.fail("again"))
    assert improve(weights, images) == 0
    assert path.read_text() == text


def test_outside_of_a_checkout(weights, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert improve(weights, images) == 1
    assert "has no Snakefile: e2mc improve runs the workflow" in capsys.readouterr().err


@pytest.mark.parametrize("train", [30, 300, 3_000, 30_000, 1_281_167])
def test_every_size_gives_a_study(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = Facts(
        name="sizes", model=Path("a: b.pth"), keys=KeyMap(), backbone=NETWORK,
        images=Counted(
            "#1", "on-disk", {"format": "imagenet", "folder": Path("#1 {x}")}, 10, train, 10
        ),
        size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip
    Path("sizes.yaml").write_text(draft(facts, {"entropy_weight": 0.1234567}))
    study = load_study("sizes.yaml")
    recipe = study.bases["model"].continued
    assert recipe.batch_size <= study.data.training_count
    assert 1 <= recipe.epochs <= 10
    assert study.bases["model"].checkpoint.path == "a: b.pth"
    assert study.data.sets["images"].folder == "#1 {x}"


def test_names():
    assert name_of(Path("a/ResNet50.a1_in1k.safetensors"), Path("/data/My Birds")) == (
        "my-birds-resnet50-a1-in1k"
    )
    assert name_of(Path("模型.pth"), Path("/данные")) == "mine"


def test_a_verdict_is_not_lost_where_the_export_fails(weights, images, checkout, monkeypatch):
    assert improve(weights, images) == 0

    def full(*_, **__):
        raise OSError("cannot write better.pth: No space left on device; is the disk full?")

    monkeypatch.setattr("e2mc.steps.export.export_checkpoint", full)
    found = SimpleNamespace(table=lambda: "| |", verdict="Better.")
    options = SimpleNamespace(export=Path("better.pth"), force=False)
    reply = _exported(load_study("birds-mine-1"), Run("model", "e2mc", 0, 0), found, options)
    assert not reply.ok
    assert re.search(r"not exported: cannot write .* Then: e2mc checkpoint export", reply.text)


@pytest.mark.slow
def test_a_verdict(weights, images, new_checkout, tmp_path):
    copy = new_checkout(tmp_path / "checkout")
    words = ["improve", str(weights), "--backbone", NETWORK, "--images", str(images)]
    words += ["--name", "birds", "--epochs", "1", "--cores", "2"]
    done = copy.e2mc(*words, "--export", "better.pth")
    assert done.returncode == 0, done.stdout[-5000:]
    network = timm.create_model("test_resnet", num_classes=0)
    network.load_state_dict(torch.load(copy.folder / "better.pth", weights_only=True), strict=True)
    card = (copy.folder / "better.md").read_text()
    assert "| E2MC |" in card and "Entropy of z in nats" in card and "| k-NN |" in card
    for row in ("| as it was |", "| whitened |", "| continued |", "| E2MC |"):
        assert row in done.stdout
    assert "k-NN" in done.stdout and "RankMe" in done.stdout
    assert "The criterion " in done.stdout
    verdict = (copy.folder / "results/birds/verdict.md").read_text()
    assert "is beyond noise" in verdict or "E2MC" in verdict.split("\n\n")[-1]
    again = copy.e2mc(*words)
    assert "Nothing to be done" in again.stdout and again.returncode == 0
    export = "e2mc checkpoint export results/birds/continued/model/e2mc/base0-cont0/checkpoint.pt"
    assert again.stdout.splitlines()[-1].endswith(f"{export} birds.safetensors --study birds")


def in_this_process(command, name):
    """Does what the workflow does."""
    study = load_study(name)
    index_task(study, "images", read_config().folder(study.data.every["images"])).perform()
    conversion_task(study, "model").perform()
    start = study.converted_path("model")
    for run in study.separability_runs():
        if run.arm != "base":
            training_task(study, run, start, device="cpu").perform()
        for rule, names in study.evaluation_jobs().items():
            if rule != "measure_information":
                made = start if run.arm == "base" else study.trained_path(run)
                evaluation_task(study, run, names, made, device="cpu").perform()


@pytest.mark.parametrize("form", ["folder", "unlabelled", "grey"])
def test_a_verdict_and_a_file(form, weights, images, checkout, capsys, monkeypatch):
    monkeypatch.setattr("e2mc.cli.improve._run", in_this_process)
    folder, labelled, channels = images, form != "unlabelled", 3
    if form == "unlabelled":
        folder = flat(checkout / "photos", 40)
    if form == "grey":
        published.mnist(checkout / "sets", monkeypatch, "FashionMNIST", train=60, test=20)
        set_folder(checkout)
        folder, channels, weights = "fashion-mnist", 1, Path("grey.pth")
        torch.save(timm.create_model("test_resnet", in_chans=1).state_dict(), weights)
    words = ["improve", str(weights), "--backbone", NETWORK, "--images", str(folder)]
    words += ["--name", "birds", "--epochs", "1", "--export", "better.pth"]
    assert main(words) == 0
    said, card = capsys.readouterr().out, Path("better.md").read_text()
    assert said.splitlines()[-1] == (
        "The model with E2MC (seed 0) is better.pth, for timm; its card is better.md"
    )
    network = timm.create_model("test_resnet", num_classes=0, in_chans=channels)
    network.load_state_dict(torch.load("better.pth", weights_only=True), strict=True)
    for text in (said, card, Path("results/birds/verdict.md").read_text()):
        assert "Entropy of z in nats" in text and "| effective rank of z |" in text
        assert ("| k-NN |" in text) == ("| whitened |" in text) == labelled
        assert ("Without labels nothing can be said about accuracy" in text) != labelled
    assert ("| k-NN, whitened features |" in card) == labelled
