"""Traces are read as their publishers wrote them; what is wrong in one is said with its line."""

from pathlib import Path
from typing import Literal

import pytest

from loadtest.errors import UserError
from loadtest.plan import traces
from loadtest.plan.traces import Row
from loadtest.scenario.arrivals import Trace

Format = Literal["mooncake", "timed_trace", "azure", "burstgpt"]

MOONCAKE = """\
{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 13]}
{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}

{"timestamp": 3000, "input_length": 12, "output_length": 1}
{"timestamp": 9500, "input_length": 12, "output_length": 1, "hash_ids": []}
"""
AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:17:03.9799600,4808,10\r\n"
    "2023-11-16 18:17:04.0319600,3180,8\r\n"
)
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00+00:00,2162,5
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,0,1087,Conversation log
118.5,GPT-4,417,276,693,API log
"""
BURSTGPT_3 = """\
Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
10,7,1.5,ChatGPT,472,18,490,Conversation log
"""


def read(
    folder: Path, format_: Format, text: str, seconds: float = 3600, speed: float = 1
) -> list[Row]:
    file = folder / "trace"
    file.write_text(text, newline="")
    trace = Trace(kind="trace", file=file, format=format_, speed=speed)
    return list(traces.read(trace, seconds))


def test_mooncake_has_milliseconds_and_blocks_of_512_tokens(tmp_path: Path) -> None:
    assert read(tmp_path, "mooncake", MOONCAKE) == [
        Row(0, 6758, 500, (0, 1, 13), 512),
        Row(3, 7322, 490, (0, 14), 512),
        Row(3, 12, 1),
        Row(9.5, 12, 1),
    ]


def test_timed_trace_has_seconds_and_blocks_of_16_tokens_as_vllm_takes_it(tmp_path: Path) -> None:
    text = MOONCAKE.replace("3000", "3").replace("9500", "9.5")
    found = read(tmp_path, "timed_trace", text)
    assert [row.at for row in found] == [0, 3, 3, 9.5]
    assert found[0] == Row(0, 6758, 500, (0, 1, 13), 16)


def test_a_timed_trace_in_milliseconds_is_played_a_thousand_times_as_fast(tmp_path: Path) -> None:
    found = read(tmp_path, "timed_trace", MOONCAKE, speed=1000)
    assert [row.at for row in found] == [0, 3, 3, 9.5]


def test_azure_of_2023_has_seven_digits_and_no_time_zone(tmp_path: Path) -> None:
    first, second = read(tmp_path, "azure", AZURE_2023)
    assert (first.at, first.prompt, first.output) == (0, 4808, 10)
    assert second.at == pytest.approx(0.052, abs=1e-6)


def test_azure_of_2024_has_a_time_zone_and_at_times_no_fraction(tmp_path: Path) -> None:
    lines = AZURE_2024.splitlines(keepends=True)
    found = read(tmp_path, "azure", "".join([lines[0], lines[2], lines[1]]))
    assert [row.at for row in found] == pytest.approx([0, 0.00993], abs=1e-6)


def test_burstgpt_counts_from_its_first_line_and_leaves_failures_out(tmp_path: Path) -> None:
    assert read(tmp_path, "burstgpt", BURSTGPT) == [Row(0, 472, 18), Row(113.5, 417, 276)]


def test_burstgpt_has_columns_in_between_in_its_third_part(tmp_path: Path) -> None:
    assert read(tmp_path, "burstgpt", BURSTGPT_3) == [Row(0, 472, 18)]


def test_a_mark_of_the_byte_order_is_no_part_of_a_column_name(tmp_path: Path) -> None:
    assert len(read(tmp_path, "azure", "\ufeff" + AZURE_2023)) == 2


def test_twice_the_speed_takes_half_the_time(tmp_path: Path) -> None:
    found = read(tmp_path, "burstgpt", BURSTGPT, speed=2)
    assert [row.at for row in found] == [0, 56.75]


def test_what_comes_after_the_duration_is_not_even_read(tmp_path: Path) -> None:
    text = MOONCAKE + "this is no JSON\n"
    assert [row.at for row in read(tmp_path, "mooncake", text, seconds=9.5)] == [0, 3, 3]
    with pytest.raises(UserError, match="line 6 of"):
        read(tmp_path, "mooncake", text, seconds=10)


LINE = '{"timestamp": 0, "input_length": 1, "output_length": 1}\n'
HEAD = "Timestamp,Model,Request tokens,Response tokens\n"


@pytest.mark.parametrize(
    ("format_", "text", "said"),
    [
        (
            "mooncake",
            LINE + "{",
            "line 2 of {file} is no JSON, or not all of it: of a CSV the format is azure, or ",
        ),
        (
            "mooncake",
            '{"input_length": 1, "output_length": 1}',
            "line 1 of {file} is no request: Object missing required field `timestamp`",
        ),
        (
            "mooncake",
            LINE.replace('"input_length": 1', '"input_length": "long"'),
            "line 1 of {file} is no request: Expected `int`, got `str` - at `$.input_length`",
        ),
        (
            "mooncake",
            LINE.replace('"input_length": 1', '"input_length": -1'),
            "line 1 of {file} is no request: Expected `int` >= 0 - at `$.input_length`",
        ),
        (
            "mooncake",
            LINE.replace("0", "5") + LINE,
            "line 2 of {file} is earlier than the one before: sort it by time",
        ),
        (
            "azure",
            AZURE_2024,
            "line 3 of {file} is earlier than the one before: sort it by time",
        ),
        (
            "azure",
            BURSTGPT,
            "line 1 of {file} has no column 'TIMESTAMP': it has Timestamp, Model, Request tokens, "
            "Response tokens, Total tokens, Log Type",
        ),
        (
            "mooncake",
            BURSTGPT,
            "line 1 of {file} is no JSON, or not all of it: of a CSV the format is ",
        ),
        (
            "azure",
            MOONCAKE,
            "line 1 of {file} is JSON, and no CSV: is the format mooncake, or timed_trace?",
        ),
        ("azure", "", "line 1 of {file} has no column 'TIMESTAMP': it has nothing"),
        (
            "azure",
            "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n",
            "line 2 of {file} is no request: Invalid isoformat string: 'yesterday'",
        ),
        ("burstgpt", HEAD + "5,GPT-4,1\n", "line 2 of {file} has 3 columns: some are missing"),
        (
            "burstgpt",
            HEAD + "5,GPT-4,1.5,1\n",
            "line 2 of {file} is no request: invalid literal for int() with base 10: '1.5'",
        ),
        ("burstgpt", HEAD + "5,GPT-4,-1,1\n", "line 2 of {file} has a negative number of tokens"),
        ("burstgpt", HEAD + "nan,GPT-4,1,1\n", "line 2 of {file} has nan for a time"),
        (
            "burstgpt",
            HEAD + f"5,{'x' * 200_000},1,1\n",
            "line 2 of {file} is no line of a CSV file: field larger than field limit (131072)",
        ),
        (
            "burstgpt",
            HEAD,
            "{file} holds no request of its first 60 s: is it a trace in the format burstgpt?",
        ),
        ("mooncake", "", "{file} holds no request of its first 60 s: is it a trace in the format "),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(
    tmp_path: Path, format_: Format, text: str, said: str
) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, format_, text, seconds=60)
    assert str(error.value).startswith(said.format(file=tmp_path / "trace"))
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text_or_none_is_said(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_bytes(b"TIMESTAMP,ContextTokens\xff")
    with pytest.raises(UserError, match="cannot be read: it is no text in UTF-8"):
        list(traces.read(Trace(kind="trace", file=file, format="azure"), 60))
    gone = Trace(kind="trace", file=tmp_path / "gone", format="mooncake")
    with pytest.raises(UserError, match="cannot be read: No such file or directory"):
        list(traces.read(gone, 60))
