"""The body fields that a client may send, by route.

Three kinds. *Passed* fields reach the engine as they came. *Accepted* ones are part of the vendor's
API but mean nothing here (or would identify somebody to the engine): they are dropped, so that SDKs
work unchanged. Every other field is refused by name, as OpenAI does, because some of vLLM's let one
tenant starve or read another: `priority`, `cache_salt`, `request_id`, `kv_transfer_params`,
`vllm_xargs`, `ignore_eos` with `min_tokens`, `prompt_embeds`, templates.

A test holds these lists against the pinned vLLM's own request models.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fields:
    """What a route accepts at the top level of its JSON body."""

    passed: frozenset[str]
    accepted: frozenset[str]


def _fields(passed: str, accepted: str) -> Fields:
    return Fields(frozenset(passed.split()), frozenset(accepted.split()))


_SAMPLING = """
    model stream stream_options max_tokens temperature top_p top_k min_p n seed stop stop_token_ids
    frequency_penalty presence_penalty repetition_penalty logit_bias bad_words allowed_token_ids
    response_format structured_outputs skip_special_tokens spaces_between_special_tokens
    include_stop_str_in_output logprobs return_token_ids thinking_token_budget
"""

CHAT = _fields(
    _SAMPLING
    + """
    messages tools tool_choice parallel_tool_calls reasoning_effort include_reasoning
    max_completion_tokens top_logprobs
    """,
    """
    user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_options
    prompt_cache_retention verbosity modalities prediction moderation
    """,
)

COMPLETIONS = _fields(_SAMPLING + "prompt suffix", "user best_of")

RESPONSES = _fields(
    """
    model stream input instructions max_output_tokens max_tool_calls parallel_tool_calls reasoning
    include_reasoning text tool_choice tools truncation include temperature top_p top_k min_p seed
    stop stop_token_ids frequency_penalty presence_penalty repetition_penalty logit_bias
    top_logprobs structured_outputs skip_special_tokens include_stop_str_in_output
    """,
    """
    user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_options
    prompt_cache_retention stream_options moderation
    """,
)

ANTHROPIC_MESSAGES = _fields(
    """
    model messages max_tokens stop_sequences stream system temperature thinking tool_choice tools
    top_k top_p output_config
    """,
    "metadata service_tier cache_control inference_geo speed",
)

ANTHROPIC_COUNT = _fields(
    "model messages system thinking tool_choice tools output_config", "cache_control speed"
)
