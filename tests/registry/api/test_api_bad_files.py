"""Bad files through the API: pairs, suites, vectors and models, each row by its status and code, and nothing of it half-applied."""

from tests.support.api import code_of
from tests.support.bad_vectors import BAD_FILES
from tests.support.files import CONFIG, lines, make_pair, make_suite, pairs_file, rubric_file, vector_file, write_model_folder


def same_side(number: int) -> dict:
    pair = make_pair(number)
    return pair | {"negative": pair["positive"]}


def asked_coldly(number: int) -> dict:
    """What a pair asks, again, under another system message."""
    pair = make_pair(number, id="cold")
    return pair | {"negative": [{"role": "system", "content": "Be cold."}, *pair["negative"][1:]]}


BAD_PAIRS = {
    "empty": (b"", "CONTRAST_EMPTY"),
    "blank": (b"\n \n", "CONTRAST_EMPTY"),
    "not JSON": (b"once upon a time\n", "CONTRAST_NOT_JSONL"),
    "an array": (b"[1]\n[2]\n", "CONTRAST_NOT_JSONL"),
    "duplicate key": (b'{"id":"a","id":"b"}\n', "CONTRAST_NOT_JSONL"),
    "one side empty": (lines([make_pair(1), make_pair(2, negative=[])]), "CONTRAST_MISSING_SIDE"),
    "identical sides": (lines([make_pair(1), same_side(2)]), "CONTRAST_IDENTICAL_SIDES"),
    "one pair": (lines([make_pair(1)]), "CONTRAST_TOO_FEW"),
    "repeated id": (lines([make_pair(1), make_pair(2, id="p1")]), "CONTRAST_DUPLICATE_PAIR"),
    "repeated pair": (lines([make_pair(1), make_pair(1, id="other")]), "CONTRAST_DUPLICATE_PAIR"),
    "byte order mark": (b"\xef\xbb\xbf" + pairs_file(), "CONTRAST_ENCODING"),
    "carriage returns": (pairs_file().replace(b"\n", b"\r\n"), "CONTRAST_ENCODING"),
    "not UTF-8": (pairs_file().replace(b"warm", b"w\xffrm"), "CONTRAST_ENCODING"),
    "lone surrogate": (pairs_file().replace(b"Be warm.", b"\\ud800"), "CONTRAST_ENCODING"),
    "NUL": (pairs_file().replace(b"Be warm.", b"\\u0000"), "CONTRAST_ENCODING"),
    "a line too long": (lines([make_pair(1), make_pair(2, product="x" * 300_000)]), "CONTRAST_LINE_TOO_LONG"),
    "unknown field": (lines([make_pair(1), make_pair(2, label=1)]), "CONTRAST_UNKNOWN_FIELD"),
    "one question": (lines([make_pair(1), asked_coldly(1)]), "CONTRAST_ONE_QUESTION"),
    "unknown role": (lines([make_pair(1), make_pair(2, positive=[{"role": "god", "content": "x"}])]), "CONTRAST_ROLE"),
}


def test_bad_pair_files(api, ada, unchanged):
    author = api(ada)
    before = unchanged()
    for row, (data, code) in BAD_PAIRS.items():
        answer = author.post("/api/v1/contrast-sets", {"name": "bad", "axis": "empathy", "digest": author.upload(data)})
        assert code_of(answer) == (422, code), row
        if code not in ("CONTRAST_EMPTY", "CONTRAST_ONE_QUESTION"):
            assert answer.json()["item"].startswith("line "), row
    assert unchanged() == before


BAD_SUITES = {
    "empty": ("factual", b"", "SUITE_EMPTY"),
    "unknown kind": ("mood", make_suite("factual"), "SUITE_KIND"),
    "wrong expectation": ("safety", make_suite("factual"), "SUITE_EXPECT"),
    "not JSON": ("factual", b"x\n", "SUITE_NOT_JSONL"),
    "repeated": ("factual", make_suite("factual") * 2, "SUITE_DUPLICATE_ITEM"),
    "wrong split": ("factual", make_suite("factual").replace(b'"test"', b'"train"'), "SUITE_SPLIT"),
    "no rubric": ("behaviour", make_suite("behaviour"), "SUITE_RUBRIC"),
}


def test_bad_suite_files(api, ada, unchanged):
    author = api(ada)
    before = unchanged()
    for row, (kind, data, code) in BAD_SUITES.items():
        answer = author.post("/api/v1/eval-suites", {"name": "bad", "kind": kind, "digest": author.upload(data)})
        assert code_of(answer) == (422, code), row
    body = {"name": "bad", "kind": "behaviour", "digest": author.upload(make_suite("behaviour"))}
    for rubric in (b"x\n", rubric_file() * 2, rubric_file().replace(b"5", b"6")):
        answer = author.post("/api/v1/eval-suites", {**body, "rubric_digest": author.upload(rubric)})
        assert code_of(answer)[1].startswith("RUBRIC_")
    assert unchanged() == before


def test_bad_vector_files(api, ada, unchanged):
    author = api(ada)
    before = unchanged()
    for row, (data, code) in BAD_FILES.items():
        status = {"VEC_HEADER_TOO_LARGE": 413, "VEC_FORMAT": 415}.get(code, 422)
        answer = author.post("/api/v1/vectors", {"name": "bad", "digest": author.upload(data)})
        assert code_of(answer) == (status, code), row
    assert unchanged() == before


def test_vector_files_that_do_not_fit_the_record(api, ada, base_model, contrast_set, vector, unchanged):
    author = api(ada)
    fingerprint, digest = base_model.fingerprint, contrast_set.digest
    rows = [
        (vector_file("ab" * 32, digest), (422, "BASE_MODEL_UNKNOWN")),
        (vector_file(fingerprint, digest, size=128), (422, "VEC_DIM_MISMATCH")),
        (vector_file(fingerprint, digest, layer=4), (422, "LAYER_RANGE")),
        (vector_file(fingerprint, digest).replace(b"resid_post", b"in_a_cloud"), (422, "VEC_METADATA")),
        (vector_file(fingerprint, digest).replace(b"41.2", b"0.00"), (422, "VEC_NORM")),
        (vector_file(fingerprint, digest, norm="9" * 30), (422, "OUT_OF_RANGE")),
        (vector_file(fingerprint, digest, method="m" * 31), (422, "OUT_OF_RANGE")),
        (vector_file(fingerprint, digest), (422, "VECTOR_EXISTS")),
    ]
    before = unchanged()
    for data, expected in rows:
        assert code_of(author.post("/api/v1/vectors", {"name": "bad", "digest": author.upload(data)})) == expected
    assert unchanged() == before
    assert code_of(author.post("/api/v1/vectors", {"name": "bad", "digest": "0" * 64})) == (404, "BLOB_MISSING")


BAD_MODELS = {
    "auto_map": ({"auto_map": {"AutoModel": "evil.Model"}}, "MODEL_CONFIG_REJECTED"),
    "nested attention": ({"text_config": {"_attn_implementation_internal": "x"}}, "MODEL_CONFIG_REJECTED"),
    "remote code": ({"trust_remote_code": True}, "MODEL_CONFIG_REJECTED"),
    "unknown architecture": ({"architectures": ["EvilForCausalLM"]}, "MODEL_ARCHITECTURE"),
    "no layers": ({"num_hidden_layers": 0}, "MODEL_CONFIG_REJECTED"),
}


def test_bad_models(api, ada, unchanged, model_root):
    author = api(ada)
    before = unchanged()
    for row, (config, code) in BAD_MODELS.items():
        write_model_folder(model_root / "bad", **config)
        assert code_of(author.post("/api/v1/base-models", {"name": "bad", "source": "bad"})) == (422, code), row
    write_model_folder(model_root / "pickled")
    (model_root / "pickled/model.safetensors").rename(model_root / "pickled/pytorch_model.bin")
    assert code_of(author.post("/api/v1/base-models", {"name": "bad", "source": "pickled"})) == (422, "MODEL_FORMAT")
    write_model_folder(model_root / "mute")
    (model_root / "mute/chat_template.jinja").unlink()
    assert code_of(author.post("/api/v1/base-models", {"name": "bad", "source": "mute"})) == (422, "MODEL_CHAT_TEMPLATE")
    for source in ("../../etc", "/etc", "http://169.254.169.254", "file:///etc", "a" * 300):
        status, code = code_of(author.post("/api/v1/base-models", {"name": "bad", "source": source}))
        assert (status, code) in ((422, "MODEL_ID"), (422, "MODEL_MISSING")), source
    assert unchanged() == before
    assert CONFIG["num_hidden_layers"] == 4
