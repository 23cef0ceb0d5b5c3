"""Shapes give the published sizes, and the sizes that vLLM logged on real cards."""

import pytest

from service.errors import UserError
from service.models import GIB, MODELS, Layout, find

LARGE = MODELS["gpt-oss-120b"]
SMALL = MODELS["gpt-oss-20b"]
TINY = MODELS["gpt-oss-tiny"]


def test_parameters_are_the_published_ones() -> None:
    assert LARGE.parameters == 116_829_156_672
    assert SMALL.parameters == 20_914_757_184


def test_checkpoint_bytes_are_the_published_ones() -> None:
    assert LARGE.checkpoint_bytes == 65_248_815_744
    assert SMALL.checkpoint_bytes == 13_761_264_768


def test_a_download_is_the_checkpoint_and_little_more() -> None:
    for model in (LARGE, SMALL):
        assert 0 < model.download_bytes - model.checkpoint_bytes < 0.003 * model.checkpoint_bytes


# GiB per GPU by tensor-parallel size, from research/gpt-oss-vllm.md 1.3.
@pytest.mark.parametrize(
    ("model", "layout", "expected"),
    [
        ("gpt-oss-120b", Layout.MARLIN, {1: 65.90, 2: 34.32, 4: 17.19, 8: 8.62}),
        ("gpt-oss-120b", Layout.TRTLLM, {1: 65.90, 2: 34.32, 4: 17.19, 8: 8.62}),
        ("gpt-oss-120b", Layout.TRITON, {1: 60.77, 2: 31.04, 4: 16.18, 8: 8.11}),
        ("gpt-oss-120b", Layout.ROCM, {1: 68.59, 2: 34.32, 4: 17.19, 8: 11.31}),
        ("gpt-oss-20b", Layout.MARLIN, {1: 13.67, 2: 7.06, 4: 3.54, 8: 1.77}),
        ("gpt-oss-20b", Layout.TRITON, {1: 12.82, 2: 6.52, 4: 3.37, 8: 1.69}),
        ("gpt-oss-120b", Layout.PLAIN, {1: 60.77, 2: 30.41}),
    ],
)
def test_padded_weights_match_the_table(
    model: str, layout: Layout, expected: dict[int, float]
) -> None:
    for tp, gib in expected.items():
        assert MODELS[model].weight_bytes(layout, tp) / GIB == pytest.approx(gib, abs=0.006)


@pytest.mark.parametrize(
    ("layout", "tp", "logged"),
    [
        (Layout.MARLIN, 1, 65.97),  # H100, vLLM issue #23278
        (Layout.TRITON_HOPPER, 1, 64.38),  # H100, vLLM issue #33155
        (Layout.MARLIN, 2, 34.38),  # 2 x H100, princeton-ddss/blackfish#162
    ],
)
def test_weights_match_what_vllm_logged_within_half_a_percent(
    layout: Layout, tp: int, logged: float
) -> None:
    assert LARGE.weight_bytes(layout, tp) / GIB == pytest.approx(logged, rel=0.005)


def test_no_layout_or_parallelism_loses_weights() -> None:
    for model in MODELS.values():
        for layout in Layout:
            for tp in model.legal_tp:
                assert model.weight_bytes(layout, tp) * tp >= model.checkpoint_bytes
                if model.experts % tp == 0:
                    whole = model.weight_bytes(layout, tp, expert_parallel=True)
                    assert whole * tp >= model.checkpoint_bytes


def test_kv_bytes_per_token_match_the_table() -> None:
    assert [LARGE.kv_bytes_per_token(tp) for tp in (1, 2, 4, 8)] == [36_864, 18_432, 9_216, 4_608]
    assert [SMALL.kv_bytes_per_token(tp) for tp in (1, 2, 4, 8)] == [24_576, 12_288, 6_144, 3_072]
    assert LARGE.kv_bytes_per_token(1, dtype_bytes=1) == 18_432


def test_legal_parallel_sizes() -> None:
    assert LARGE.legal_tp == SMALL.legal_tp == (1, 2, 4, 8)
    assert TINY.legal_tp == (1, 2)
    with pytest.raises(ValueError, match="16"):
        LARGE.weight_bytes(Layout.MARLIN, 16)
    with pytest.raises(ValueError, match="3"):
        LARGE.kv_bytes_per_token(3)


def test_the_tiny_model_is_tiny_and_not_quantised() -> None:
    assert TINY.checkpoint_bytes < 0.11 * 10**9
    assert TINY.repo is None


def test_find_accepts_the_organisation() -> None:
    assert find("openai/gpt-oss-20b") is find("gpt-oss-20b") is find(" GPT-OSS-20B ") is SMALL
    assert SMALL.repo == "openai/gpt-oss-20b"


def test_find_lists_the_models_there_are() -> None:
    with pytest.raises(UserError) as error:
        find("gpt-4")
    assert all(name in str(error.value) for name in MODELS)
    assert "\n" not in str(error.value)
