"""Forty odd documents, and what becomes of each: read as what it looks like, or refused where it stands."""

import pytest

from steernode.errors import ManifestError
from steernode.hub.manifests import read_manifests

HEAD = "apiVersion: steerhub/v1\nkind: Tenant\nmetadata: {name: t1}\n"

READ = {
    "anchor that nobody uses": ("metadata: &m {name: t1}\n", {"metadata": {"name": "t1"}}),
    "byte order mark": ("\ufeffkind: Tenant\n", {"kind": "Tenant"}),
    "line ends of Windows": ("kind: Tenant\r\nspec: {title: x}\r\n", {"kind": "Tenant", "spec": {"title": "x"}}),
    "letters of another script": ("name: hаrbor\n", {"name": "hаrbor"}),
    "character beyond the first 65,536": ('name: "t😀"\n', {"name": "t😀"}),
    "day": ("title: 2026-11-29\n", {"title": "2026-11-29"}),
    "number with an exponent": ("title: 1e3\n", {"title": "1e3"}),
    "number with a zero at its end": ("scale: 0.30\n", {"scale": "0.30"}),
    "octal": ("a: 0123\nb: 010\n", {"a": "0123", "b": "010"}),
    "sexagesimal": ("title: 12:30:45\n", {"title": "12:30:45"}),
    "merge key": ("<<: {name: t1}\n", {"<<": {"name": "t1"}}),
    "folded text": ("title: >-\n  a\n  b\n", {"title": "a b"}),
    "text that turns round": ("title: 'a\u202eb'\n", {"title": "a\u202eb"}),
    "JSON": ('{"kind":"Tenant","spec":{"title":"x"}}', {"kind": "Tenant", "spec": {"title": "x"}}),
    "escapes of JSON": (r'{"title": "caf\u00e9 \ud83d\ude00 \/"}', {"title": "café 😀 /"}),
    "a key in two halves": (r'{"\uD83D\uDE00": 1}', {"😀": 1}),
    "a backslash before what is no escape": (r'{"title": "\\ud83d\\ude00"}', {"title": r"\ud83d\ude00"}),
    "halves outside of double quotes": ("a: \\ud83d\\ude00\nb: '\\ud83d'\n", {"a": "\\ud83d\\ude00", "b": "\\ud83d"}),
    "tags that say what is there": ('a: !!int "10"\nb: !!str 1\n', {"a": 10, "b": "1"}),
    "largest numbers": (f"a: {2**63 - 1}\nb: -{2**63 - 1}\n", {"a": 2**63 - 1, "b": 1 - 2**63}),
}
REFUSED = {
    "alias": ("metadata: &m {name: t1}\nspec: {title: *m}\n", "MANIFEST_YAML", "line 2 column 15"),
    "aliases of aliases": ("a: &a [x,x]\nb: &b [*a,*a]\n", "MANIFEST_YAML", "line 2 column 8"),
    "depth": (f"a: {'[' * 100}{']' * 100}\n", "MANIFEST_YAML", "line 1 column 35"),
    "key twice": ("metadata: {name: t1, name: t2}\n", "MANIFEST_DUPLICATE_KEY", "line 1 column 22"),
    "key twice, in two spellings": (r'{"😀": 1, "\ud83d\ude00": 2}', "MANIFEST_DUPLICATE_KEY", "line 1 column 10"),
    "country": (f"{HEAD}spec: {{title: no}}\n", "MANIFEST_BOOLEAN", "line 4 column 15"),
    "long number": (f"{HEAD}spec: {{title: {'9' * 5000}}}\n", "MANIFEST_YAML", "line 4 column 15"),
    "number past 64 bits": (f"a: {2**63}\n", "MANIFEST_YAML", "line 1 column 4"),
    "digits of another script": (f'{HEAD}spec: {{revision: !!int "٢"}}\n', "MANIFEST_YAML", "line 4 column 18"),
    "digits of full width": ('a: !!int "１２"\n', "MANIFEST_YAML", "line 1 column 4"),
    "digits with a line between": ('a: !!int "1_0"\n', "MANIFEST_YAML", "line 1 column 4"),
    "digits with a sign too many": ('a: !!int "+1"\n', "MANIFEST_YAML", "line 1 column 4"),
    "a number that is none": ("a: !!int abc\n", "MANIFEST_YAML", "line 1 column 4"),
    "escaped NUL": (f'{HEAD}spec: {{title: "a\\0b"}}\n', "MANIFEST_YAML", "line 4 column 15"),
    "escaped NUL in a key": ('a: 1\n"b\\x00": 2\n', "MANIFEST_YAML", "line 2 column 1"),
    "NUL": ("a: 1\nb: x\0y\n", "MANIFEST_YAML", "line 2 column 5"),
    "other control characters": ("a: 1\n\nb: \x1b[2J\n", "MANIFEST_YAML", "line 3 column 4"),
    "half of a character": (f'{HEAD}spec: {{title: "\\ud800"}}\n', "MANIFEST_YAML", "line 4 column 15"),
    "the other half": (r'{"title": "\ude00\ud83d"}', "MANIFEST_YAML", "line 1 column 11"),
    "object of Python": ("!!python/object/apply:os.system ['id']\n", "MANIFEST_YAML", "line 1 column 1"),
    "tab": ("metadata:\n\tname: t1\n", "MANIFEST_YAML", "line 2 column 1"),
    "nothing but separators": ("---\n---\n", "MANIFEST_MISSING", ""),
}


@pytest.mark.parametrize("odd", READ)
def test_it_is_read_as_what_it_looks_like(tmp_path, odd):
    text, document = READ[odd]
    (tmp_path / "m.yaml").write_bytes(text.encode())
    [entry] = read_manifests(tmp_path)
    assert entry.document == document


@pytest.mark.parametrize("odd", REFUSED)
def test_it_is_refused_where_it_stands(tmp_path, odd):
    text, code, where = REFUSED[odd]
    (tmp_path / "m.yaml").write_bytes(text.encode())
    with pytest.raises(ManifestError) as caught:
        read_manifests(tmp_path)
    assert (caught.value.code, where in caught.value.message) == (code, True), caught.value.message


def test_another_encoding_than_utf8_is_refused(tmp_path):
    (tmp_path / "m.yaml").write_bytes("kind: Tenant\n".encode("utf-16"))
    with pytest.raises(ManifestError, match="not UTF-8 at byte 0"):
        read_manifests(tmp_path)


# -- Which files of a folder are manifests --------------------------------------------------------------------------------------


def write(folder, name: str, title: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"title: {title}\n")


@pytest.mark.parametrize("suffix", ["yaml", "yml", "YML", "YAML", "Yaml", "yMl"])
def test_every_spelling_of_the_suffix_is_read(tmp_path, suffix):
    write(tmp_path, f"deeper/a.{suffix}", "x")
    assert [entry.document for entry in read_manifests(tmp_path)] == [{"title": "x"}]


def test_what_an_editor_left_and_what_is_hidden_is_skipped_and_said(steer, recording_hub, tmp_path):
    for name in (".#a.yaml", "#a.yaml#", "a.yaml~", ".a.yaml.swp", "a.yaml.orig", "#b.yml", ".c.yaml", ".old/d.yaml", ".old/deeper/e.YML"):
        write(tmp_path, name, "never")
    write(tmp_path, "notes.txt", "never")
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    write(tmp_path, "a.yaml", "x")
    (tmp_path / "folder.yaml").mkdir()
    write(tmp_path, "folder.yaml/b.yml", "y")
    recording_hub.answers["/manifests/plan"] = [{"planDigest": "d" * 64, "changes": 0, "steps": [], "environments": []}]
    result = steer("plan", "-f", tmp_path)
    assert [body["documents"] for body in recording_hub.bodies()] == [[{"title": "x"}, {"title": "y"}]]
    assert sorted(result.stderr.splitlines()) == [
        "skipped #a.yaml#: left by an editor",
        "skipped #b.yml: left by an editor",
        "skipped .#a.yaml: hidden",
        "skipped .a.yaml.swp: hidden",
        "skipped .c.yaml: hidden",
        "skipped .old: a hidden folder with 2 such files",
        "skipped a.yaml.orig: left by an editor",
        "skipped a.yaml~: left by an editor",
        "skipped gone.yaml: not a file",
    ]


def test_a_file_that_is_named_is_read_whatever_its_name(tmp_path):
    write(tmp_path, ".hidden.json", "x")
    assert [entry.document for entry in read_manifests(tmp_path / ".hidden.json")] == [{"title": "x"}]


def test_a_folder_of_nothing_but_leftovers_holds_no_manifest(tmp_path):
    write(tmp_path, "a.yaml~", "x")
    with pytest.raises(ManifestError, match="holds no manifest"):
        read_manifests(tmp_path)
