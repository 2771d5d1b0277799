"""WebDataset shards in the layout of CLIP_benchmark, sound and damaged: members are foreign bytes."""

from __future__ import annotations

import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.datasets import COLOURS
from support.shards import entries, image_bytes, write_shard, write_shards

from clip_eval.dataset import Dataset, decode, open_dataset
from clip_eval.dataset import webdataset_shards as shards
from clip_eval.errors import DatasetError

COLOUR_NAMES = tuple(COLOURS)


def problems(dataset: Dataset) -> dict[str, str | None]:
    """Return the problems of a dataset by place, images read."""
    return {entry.where: entry.problem for entry in dataset.entries() if entry.problem}


def header(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    """Return a header that claims a size, and brings no content."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def test_records_come_shard_by_shard(tmp_path: Path) -> None:
    """Each entry is a sample with its image, and the name that stands on the line of its number."""
    dataset = open_dataset(write_shards(tmp_path))
    found = list(dataset.entries())
    assert [entry.problem for entry in found] == [None] * 6
    samples = [entry.sample for entry in found if entry.sample]
    assert [sample.id for sample in samples][2:4] == ["0/s0000002", "1/s0000003"]
    assert [sample.path for sample in samples][2:4] == ["test/0.tar/s0000002.webp", "test/1.tar/s0000003.png"]
    assert [sample.label for sample in samples] == [*COLOUR_NAMES, *COLOUR_NAMES]
    assert found[0].image == image_bytes("red")
    assert dataset.zero_shot is not None
    assert dataset.zero_shot.classes == COLOUR_NAMES
    assert dataset.zero_shot.prompts == ("a photo of a {}.", "a drawing of a {}.")
    assert dataset.require_complete() == 6
    assert [item.image.size for item in map(decode, dataset.entries()) if item.image] == [(24, 20)] * 6


def test_a_dataset_may_be_named_by_the_folder_of_its_shards(tmp_path: Path) -> None:
    """The text files are found beside the shards, and beside their folder."""
    write_shards(tmp_path)
    (tmp_path / "test").rename(tmp_path / "train")
    dataset = open_dataset(tmp_path / "train")
    assert [sample.label for sample in dataset.samples()] == [*COLOUR_NAMES, *COLOUR_NAMES]
    for name in ("classnames.txt", "zeroshot_classification_templates.txt"):
        (tmp_path / name).rename(tmp_path / "train" / name)
    (tmp_path / "train/nshards.txt").unlink()
    dataset = open_dataset(tmp_path / "train")
    assert dataset.zero_shot is not None
    assert dataset.require_complete() == 6


def test_retrieval_datasets_have_captions(tmp_path: Path) -> None:
    """Of a retrieval dataset each line of a text is a caption; no class is asked for, and an entry without is told."""
    members = [
        ("a.jpg", image_bytes("red", "jpeg")),
        ("a.txt", "one\n二\n".encode()),
        ("b.png", image_bytes("red", "png")),
    ]
    dataset = open_dataset(write_shards(tmp_path, texts={"dataset_type.txt": "retrieval\n"}, shards=[members]))
    assert dataset.zero_shot is None
    found = list(dataset.entries())
    assert found[0].sample is not None
    assert (found[0].sample.captions, found[0].sample.label) == (("one", "二"), None)
    assert [entry.problem for entry in found] == [None, "it has no caption, in .txt"]


def test_multilabel_datasets_have_no_label(tmp_path: Path) -> None:
    """Labels of more than one class are no label; images are read all the same."""
    dataset = open_dataset(
        write_shards(
            tmp_path, texts={"dataset_type.txt": "multilabel\n"}, shards=[[*entries(1)[:1], ("s0000000.npy", b"")]]
        )
    )
    assert [sample.label for sample in dataset.samples()] == [None]
    assert dataset.zero_shot is None


def test_labels_are_numbers_where_classes_have_no_names(tmp_path: Path) -> None:
    """Without classnames.txt there is no task, and a label is the number itself."""
    dataset = open_dataset(write_shards(tmp_path, texts={}))
    assert dataset.zero_shot is None
    assert [sample.label for sample in dataset.samples()] == ["0", "1", "2"] * 2


def test_classes_of_one_name_are_one_class(tmp_path: Path) -> None:
    """ImageNet has two classes that are called sunglasses: their texts are equal, so either answer is right."""
    dataset = open_dataset(write_shards(tmp_path, texts={"classnames.txt": "sunglasses\nscarf\nsunglasses\n"}))
    assert [sample.label for sample in dataset.samples()][:3] == ["sunglasses", "scarf", "sunglasses"]
    assert dataset.zero_shot is not None
    assert dataset.zero_shot.classes == ("sunglasses", "scarf")


IMAGE = image_bytes("red")
BROKEN_SAMPLES: dict[str, tuple[list[tuple[str, bytes] | tarfile.TarInfo], str]] = {
    "no image": ([("x.cls", b"1")], "it has no image (webp, png, jpg, jpeg)"),
    "no label": ([("x.webp", IMAGE)], "it has no .cls"),
    "a word for a label": (
        [("x.webp", IMAGE), ("x.cls", b"red")],
        "its .cls holds 'red', which is not a class number",
    ),
    "a negative label": ([("x.webp", IMAGE), ("x.cls", b"-1")], "its .cls holds '-1', which is not a class number"),
    "a label too high": (
        [("x.webp", IMAGE), ("x.cls", b"3")],
        "its .cls holds 3, and classnames.txt has 3 classes from 0",
    ),
    "a huge label": ([("x.webp", IMAGE), ("x.cls", b"9" * 5000)], f"its .cls holds {'9' * 40}, and classnames.txt has"),
    "a label of bytes": ([("x.webp", IMAGE), ("x.cls", b"\xff")], "its .cls is not UTF-8"),
    "two of a kind": ([("x.webp", IMAGE), ("x.webp", IMAGE), ("x.cls", b"1")], "it has two members .webp"),
    "a link": ([header("x.webp", tarfile.SYMTYPE, link="/etc/passwd"), ("x.cls", b"1")], "it is a link"),
    "a hard link": ([header("x.webp", tarfile.LNKTYPE, link="s0000000.webp"), ("x.cls", b"1")], "it is a link"),
    "a label behind a link": (
        [("x.webp", IMAGE), header("x.cls", tarfile.SYMTYPE, link="y")],
        "its .cls: it is a link",
    ),
    "a pipe": ([header("x.webp", tarfile.FIFOTYPE), ("x.cls", b"1")], "it is not a regular file"),
    "a device": ([header("x.webp", tarfile.CHRTYPE), ("x.cls", b"1")], "it is not a regular file"),
    "a way out": ([("../x.webp", IMAGE), ("../x.cls", b"1")], "its .cls: its name is outside the archive"),
    "an absolute name": ([("/x.webp", IMAGE), ("/x.cls", b"1")], "its .cls: its name is outside the archive"),
    "no dot": ([("x", IMAGE)], "it belongs to no sample, as its name has no dot"),
}


@pytest.mark.parametrize("broken", BROKEN_SAMPLES)
def test_a_broken_sample_is_named(tmp_path: Path, broken: str) -> None:
    """An entry that cannot be read is told with its place, among others that can."""
    members, said = BROKEN_SAMPLES[broken]
    write_shards(tmp_path)
    write_shard(tmp_path / "test/0.tar", [*entries(2), *members, *entries(1, start=2)])
    dataset = open_dataset(tmp_path)
    found = problems(dataset)
    assert len(found) == 1
    where, problem = found.popitem()
    assert where.startswith("test/0.tar: ")
    assert where.split(": ")[1].lstrip("./").startswith("x")
    assert str(problem).startswith(said)
    assert sum(entry.problem is None for entry in dataset.entries()) == 6
    with pytest.raises(DatasetError, match="1 of 7 samples cannot be read"):
        dataset.require_complete()


def test_hidden_members_and_folders_are_no_records(tmp_path: Path) -> None:
    """Archives that macOS packs hold `._` files, and `tar` writes folders: neither is a sample, nor a problem."""
    members = [
        header("./", tarfile.DIRTYPE),
        ("./._s0000000.webp", b"x"),
        *[("./" + name, data) for name, data in entries(1)],
    ]
    write_shards(tmp_path)
    write_shard(tmp_path / "test/0.tar", members)
    dataset = open_dataset(tmp_path)
    assert problems(dataset) == {}
    assert [sample.id for sample in dataset.samples()][:1] == ["0/./s0000000"]


def test_huge_members_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member beyond the limit is told by its size, before a byte of it is read; so is one that claims too much."""
    write_shards(tmp_path, shards=[entries(2)])
    monkeypatch.setattr(shards, "LARGEST_IMAGE_BYTES", 10)
    assert all("and the limit is 10" in str(problem) for problem in problems(open_dataset(tmp_path)).values())
    monkeypatch.undo()
    shard = write_shard(tmp_path / "test/0.tar", entries(1))
    claims = header("y.webp", size=10**15)
    shard.write_bytes(shard.read_bytes()[:2048] + claims.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    found = problems(open_dataset(tmp_path))
    assert "after 'y.webp'" in str(found["test/0.tar"])
    assert "it has no .cls" in str(found["test/0.tar: y"])


@pytest.mark.parametrize("size", [0, 3, 511, 512, 900, 1024, 1300, 1536, 2048])
def test_a_shard_that_breaks_off_is_told(tmp_path: Path, size: int) -> None:
    """Wherever an archive is cut, the loss is told, also between two members, where the rest could be a whole one."""
    write_shards(tmp_path)
    shard = tmp_path / "test/0.tar"
    shard.write_bytes(shard.read_bytes()[:size])
    found = problems(open_dataset(tmp_path))
    assert "test/0.tar" in found
    assert any(word in str(found["test/0.tar"]) for word in ("breaks off", "not an uncompressed tar", "damaged"))
    with pytest.raises(DatasetError, match="cannot be read"):
        open_dataset(tmp_path).require_complete()


def test_a_damaged_header_is_told(tmp_path: Path) -> None:
    """A header in the middle that is no header ends a shard, and not in silence."""
    write_shards(tmp_path)
    shard = tmp_path / "test/0.tar"
    data = bytearray(shard.read_bytes())
    at = bytes(data).index(b"s0000001.webp")
    data[at : at + 4] = b"\xff\xff\xff\xff"
    shard.write_bytes(data)
    dataset = open_dataset(tmp_path)
    assert problems(dataset) == {"test/0.tar": "the archive breaks off, or is damaged, after 's0000000.cls'"}
    assert sum(entry.problem is None for entry in dataset.entries()) == 4


def test_a_compressed_shard_is_told(tmp_path: Path) -> None:
    """Only plain tar files are read: a compressed one could unpack to anything."""
    write_shards(tmp_path)
    with tarfile.open(tmp_path / "test/0.tar", "w:gz") as archive:
        archive.addfile(header("x"))
    assert "it is not an uncompressed tar file" in str(problems(open_dataset(tmp_path))["test/0.tar"])


@settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(places=st.lists(st.tuples(st.integers(0, 6143), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_raise_nothing(tmp_path: Path, places: list[tuple[int, int]]) -> None:
    """Whatever bytes are changed, reading ends, raises nothing, and every image that is yielded was in the archive."""
    if not (tmp_path / "test").exists():
        write_shards(tmp_path, shards=[entries(3)])
        (tmp_path / "whole.bin").write_bytes((tmp_path / "test/0.tar").read_bytes())
    data = bytearray((tmp_path / "whole.bin").read_bytes())
    for place, value in places:
        data[place] = value
    (tmp_path / "test/0.tar").write_bytes(data)
    for entry in open_dataset(tmp_path).entries():
        assert (entry.image is None) == (entry.problem is not None)
        assert entry.image is None or entry.image in bytes(data)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("test/nshards.txt", "3\n", "nshards.txt says 3, from 0.tar on, and there are 2; 2.tar differ"),
        ("test/nshards.txt", "1\n", "nshards.txt says 1, from 0.tar on, and there are 2; 1.tar differ"),
        ("test/nshards.txt", "two\n", "'two' is not a number of shards"),
        ("test/nshards.txt", "0\n", "'0' is not a number of shards"),
        ("dataset_type.txt", "audio\n", "'audio' is not a type of dataset"),
        ("classnames.txt", "red\n", "one class only"),
        ("classnames.txt", "red\n\nblue\n", "line 2 is empty"),
        ("zeroshot_classification_templates.txt", "a photo\n", "does not hold {c} once"),
    ],
)
def test_text_files_that_make_no_sense_are_refused(tmp_path: Path, file: str, text: str, said: str) -> None:
    """Each mistake is one paragraph that says what is wrong."""
    write_shards(tmp_path)
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shard_is_walked_in_little_memory(tmp_path: Path) -> None:
    """Of a shard of 6,000 members the walk holds less than 200 KB beyond what the first entries took."""
    shard = [
        (f"s{index:07d}.{ending}", data) for index in range(3000) for ending, data in (("webp", IMAGE), ("cls", b"1"))
    ]
    write_shards(tmp_path, shards=[shard])
    walk = open_dataset(tmp_path).entries()
    for _ in range(100):
        next(walk)
    tracemalloc.start()
    try:
        assert sum(1 for _ in walk) == 2900
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 200_000


def test_digest_covers_shards_and_texts(tmp_path: Path) -> None:
    """Another prompt and another byte in a shard each make another dataset."""
    dataset = open_dataset(write_shards(tmp_path))
    digests = [dataset.digest()]
    for file in ("zeroshot_classification_templates.txt", "test/1.tar"):
        path = tmp_path / file
        path.write_bytes(path.read_bytes() + b"\n")
        digests.append(dataset.digest())
    assert len(set(digests)) == 3
