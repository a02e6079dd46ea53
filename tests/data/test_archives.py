# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import gzip
import tarfile

import pytest

from itit_hf.data.archives import open_archive, read_field, read_samples

from ..testing_utils import archive


def samples_of(path):
    """Keys, with the content of each field."""
    with open_archive(path) as file:
        found = read_samples(file, path)
        return [(each.key, {name: read_field(file, each, name) for name in each.fields}) for each in found]


def test_files_of_one_name_are_a_sample_in_any_order_and_case(tmp_path):
    members = [("./a/1.PNG", b"A"), ("./a/2.Png", b"B"), ("a/2.TXT", b"two"), ("a/1.txt", b"one"), ("b/1.png", b"C")]
    assert samples_of(archive(tmp_path / "0.tar", members)) == [
        ("a/1", {"png": b"A", "txt": b"one"}),
        ("a/2", {"png": b"B", "txt": b"two"}),
        ("b/1", {"png": b"C"}),
    ]


def test_the_first_dot_parts_key_and_field_unless_no_field_is_bare(tmp_path):
    members = [("1.jpg", b""), ("1.seg.png", b""), ("v1.5.jpg", b""), ("v1.6.jpg", b""), ("v1.5.txt", b"")]
    assert [(key, list(fields)) for key, fields in samples_of(archive(tmp_path / "0.tar", members))] == [
        ("1", ["jpg", "seg.png"]),
        ("v1.5", ["jpg", "txt"]),
        ("v1.6", ["jpg"]),
    ]


def test_what_is_hidden_or_no_file_is_no_member(tmp_path):
    archive(
        tmp_path / "0.tar", [("a/._1.png", b"x"), ("__MACOSX/a/1.png", b"x"), (".git/1.png", b"x"), ("1.png", b"A")]
    )
    with tarfile.open(tmp_path / "0.tar", "a") as tar:
        folder, link = tarfile.TarInfo("folder"), tarfile.TarInfo("2.png")
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "1.png"
        tar.addfile(folder)
        tar.addfile(link)
    assert samples_of(str(tmp_path / "0.tar")) == [("1", {"png": b"A"})]


@pytest.mark.parametrize(
    ("ending", "mode"), [("tar.gz", "w:gz"), ("TGZ", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")]
)
def test_compressed_archives_are_read_too(tmp_path, ending, mode):
    file = archive(tmp_path / f"0.{ending}", [("1.png", b"A"), ("2.png", b"B"), ("1.txt", b"one")], mode)
    assert samples_of(file) == [("1", {"png": b"A", "txt": b"one"}), ("2", {"png": b"B"})]


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


MEMBERS = [(f"{number}.{end}", bytes([65 + number]) * 700) for number in range(4) for end in ("png", "txt")]


@pytest.mark.parametrize("member", range(8))
@pytest.mark.parametrize("place", ["header", "content", "end"])
def test_an_archive_that_is_cut_anywhere_is_refused_with_the_last_whole_sample(tmp_path, member, place):
    content = read_bytes(archive(tmp_path / "0.tar", MEMBERS))
    length = 1536 * member + {"header": 300, "content": 900, "end": 1536}[place]  # a header, two blocks of content
    (tmp_path / "cut.tar").write_bytes(content[:length])
    last = member // 2 - 1 if place != "header" else (member - 1) // 2 - 1
    wanted = f"the last whole sample is '{last}', number {last + 1}" if last >= 0 else "is no archive|no whole sample"
    with pytest.raises(ValueError, match=f"cut.tar` .*({wanted})"):
        samples_of(str(tmp_path / "cut.tar"))


def test_an_archive_may_lack_the_padding_behind_its_end(tmp_path):
    content = read_bytes(archive(tmp_path / "0.tar", MEMBERS))
    (tmp_path / "short.tar").write_bytes(content[: 8 * 1536 + 512])
    assert len(samples_of(str(tmp_path / "short.tar"))) == 4


def test_a_cut_archive_of_images_first_and_captions_after_names_the_last_whole_sample(tmp_path):
    members = sorted(MEMBERS, key=lambda member: member[0][-3:])
    content = read_bytes(archive(tmp_path / "0.tar", members))
    (tmp_path / "0.tar").write_bytes(content[: 6 * 1536 + 700])  # within 2.txt
    with pytest.raises(ValueError, match="the last whole sample is '1', number 2"):
        samples_of(str(tmp_path / "0.tar"))


def test_a_cut_compressed_archive_is_refused(tmp_path):
    content = gzip.compress(read_bytes(archive(tmp_path / "0.tar", MEMBERS)))
    (tmp_path / "cut.tar.gz").write_bytes(content[: len(content) - 40])
    with pytest.raises(ValueError, match="cut.tar.gz` is cut or broken"):
        samples_of(str(tmp_path / "cut.tar.gz"))


def test_archives_written_one_behind_the_other_are_refused(tmp_path):
    first = read_bytes(archive(tmp_path / "0.tar", MEMBERS[:2]))
    second = read_bytes(archive(tmp_path / "1.tar", MEMBERS[2:]))
    (tmp_path / "both.tar").write_bytes(first + second)
    with pytest.raises(ValueError, match="both.tar` is broken: there is more behind its end"):
        samples_of(str(tmp_path / "both.tar"))


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"two files for 'png' of the sample '1', as 1.PNG"):
        samples_of(archive(tmp_path / "0.tar", [("1.png", b"A"), ("1.PNG", b"B")]))
