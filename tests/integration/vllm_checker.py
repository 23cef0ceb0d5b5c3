"""Runs inside a process that may import vLLM: says of each case whether vLLM accepts it.

Reads a list of {title, config, env} from standard input; the last line of standard output maps
each title to vLLM's complaint, or to nothing.
"""

import io
import json
import os
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import yaml
from vllm.config.attention import AttentionConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.platforms import current_platform
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser


def main() -> None:
    parser = make_arg_parser(FlexibleArgumentParser())
    answers = {case["title"]: _complaint(parser, case) for case in json.load(sys.stdin)}
    print(json.dumps(answers))  # noqa: T201 - the answer


def _complaint(parser: Any, case: dict[str, Any]) -> str:
    before = dict(os.environ)
    said = io.StringIO()
    try:
        os.environ.update(case["env"])
        _check_false_keys(parser, Path(case["config"]))
        with redirect_stderr(said):
            args = parser.parse_args(["--config", case["config"]])
        validate_parsed_serve_args(args)
        _check_names(args)
        _check_engine(AsyncEngineArgs.from_cli_args(args))
    except SystemExit:  # argparse
        return said.getvalue().strip().splitlines()[-1]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        os.environ.clear()
        os.environ.update(before)
    return ""


def _check_false_keys(parser: Any, path: Path) -> None:
    """vLLM skips `key: false` when it has no `--no-key`, so a misspelt one would go unseen."""
    options = parser._option_string_actions
    for key, value in yaml.safe_load(path.read_text()).items():
        if value is False and f"--no-{key}" not in options:
            raise ValueError(f"unknown key {key}")


def _check_names(args: Any) -> None:
    """Names that the parser takes as plain text and the server looks up later."""
    ToolParserManager.get_tool_parser(args.tool_call_parser)
    ReasoningParserManager.get_reasoning_parser(args.reasoning_parser)
    if args.attention_backend is not None:
        AttentionConfig.validate_backend_before(args.attention_backend)


def _check_engine(engine: Any) -> None:
    """The part of the engine's start that needs neither weights nor the card."""
    engine.create_logging_config()
    engine.create_observability_config()
    current_platform.validate_environ(engine.fail_on_environ_validation)


if __name__ == "__main__":
    main()
