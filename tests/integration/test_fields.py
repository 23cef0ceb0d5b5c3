"""The lists of body fields, held against vLLM's own request models and the SDKs' parameters."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsBase
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from service.cli.fields import table
from service.gateway.routes import INFERENCE

ROUTES = {route.name: route.fields for route in INFERENCE.values()}

# vLLM's models import torch, which takes ten seconds: once, and out of this process.
ASK_VLLM = """
import json
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest, AnthropicMessagesRequest)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
models = {"chat": ChatCompletionRequest, "completions": CompletionRequest,
          "responses": ResponsesRequest, "messages": AnthropicMessagesRequest,
          "count_tokens": AnthropicCountTokensRequest}
print(json.dumps({name: sorted(model.model_fields) for name, model in models.items()}))
"""

# Each was looked at: what it can do is not a tenant's to decide (see service/gateway/fields.py), or
# it belongs to another kind of model.
REFUSED = set(
    """
    add_generation_prompt add_special_tokens background cache_salt chat_template
    chat_template_kwargs continue_final_message documents ec_transfer_params echo
    enable_response_messages ignore_eos kv_transfer_params length_penalty logprob_token_ids
    media_io_kwargs min_tokens mm_payload mm_processor_kwargs previous_input_messages
    previous_response_id priority prompt_embeds prompt_logprobs repetition_detection request_id
    return_mm_kwargs return_prompt_text return_token_offsets return_tokens_as_token_ids
    routed_experts_prompt_start session_id stream_interval truncate_prompt_tokens truncation_side
    use_beam_search vllm_xargs watermarking
    """.split()
)
# `prompt` of the Responses API is a stored template, of the completions API the text itself.
REFUSED_BY_ROUTE = {"responses": {"prompt"}}

# Of the vendors' API, and nothing that vLLM has.
NOT_SERVED = set(
    """
    access_programs audio background_options container context_management conversation diagnostics
    function_call functions image user_profile_id web_search_options workspace_id
    """.split()
)


@pytest.fixture(scope="module")
def engine_fields() -> dict[str, set[str]]:
    result = subprocess.run(
        [sys.executable, "-c", ASK_VLLM], capture_output=True, text=True, timeout=600, check=True
    )
    fields = json.loads(result.stdout.splitlines()[-1])
    return {name: set(names) for name, names in fields.items()}


@pytest.mark.parametrize("name", ROUTES)
def test_what_is_passed_exists_in_the_engine(name: str, engine_fields: dict[str, set[str]]) -> None:
    assert ROUTES[name].passed <= engine_fields[name]


@pytest.mark.parametrize("name", ROUTES)
def test_every_field_of_the_engine_was_decided_on(
    name: str, engine_fields: dict[str, set[str]]
) -> None:
    fields = ROUTES[name]
    refused = REFUSED | REFUSED_BY_ROUTE.get(name, set())
    assert engine_fields[name] - fields.passed - fields.accepted <= refused
    assert not fields.passed & refused


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("chat", ChatParams),
        ("completions", CompletionCreateParamsBase),
        ("responses", ResponseCreateParamsBase),
        ("messages", MessageCreateParamsBase),
        ("count_tokens", MessageCountTokensParams),
    ],
)
def test_every_parameter_of_the_sdks_was_decided_on(name: str, parameters: type) -> None:
    fields = ROUTES[name]
    refused = REFUSED | REFUSED_BY_ROUTE.get(name, set()) | NOT_SERVED
    assert set(parameters.__annotations__) - fields.passed - fields.accepted <= refused


def test_the_table_of_fields_is_the_one_that_is_decided_by() -> None:
    kept = Path("service/gateway/FIELDS.md").read_text()
    assert kept == table(), "run `gptoss fields > service/gateway/FIELDS.md`"
