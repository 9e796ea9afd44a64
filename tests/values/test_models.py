"""Models of pydantic and of the openai client keep all they hold, also what was set and what was not."""

from typing import Any
from uuid import UUID

import openai
import pytest
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionMessage,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)
from openai.types.responses import Response, ResponseInputParam

from holdfast.errors import Unserialisable
from holdfast.values import codec_for, returns_of
from tests.values.kinds import Aliased, BigDog, Cat, Dog, Hotel, Page, Pet, Private, Stamped, Trip

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "offline-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": None,
            "message": {
                "role": "assistant",
                "content": None,
                "async": "a name that Python reserves",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q":"Rome"}'}},
                    {"id": "call_2", "type": "function", "function": {"name": "scrape", "arguments": "{}"}},
                ],
            },
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_700_000_000.0,
    "model": "offline-1",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [{"type": "function", "name": "search", "parameters": {"type": "object"}, "strict": True}],
    "top_p": 1.0,
    "status": "completed",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        },
        {
            "id": "fc_1",
            "type": "function_call",
            "call_id": "call_1",
            "name": "search",
            "arguments": "{}",
            "status": "completed",
        },
    ],
}


def built(kind, fields):
    """As the client builds what a server sent: without checks."""
    return kind.construct(**fields)


@pytest.mark.parametrize("kind, fields", [(ChatCompletion, COMPLETION), (Response, RESPONSE)])
def test_an_answer_of_the_openai_client_comes_back_whole(kind, fields):
    answer = built(kind, fields)
    data, live = codec_for(kind).encode_checked(answer)
    replayed = codec_for(kind).decode(data)
    assert live == answer == replayed
    assert type(replayed) is kind
    assert replayed.to_dict(mode="json") == answer.to_dict(mode="json") == fields


def test_a_message_can_go_into_the_next_request_as_it_is():
    message = built(ChatCompletion, COMPLETION).choices[0].message
    _, live = codec_for(ChatCompletionMessage).encode_checked(message)
    assert live.tool_calls[0].function.name == "search"
    # What the client sends: only fields that were set, under their wire names. A null too many is refused by servers.
    wire = live.model_dump(exclude_unset=True, by_alias=True)
    assert wire == message.model_dump(exclude_unset=True, by_alias=True)
    assert "refusal" not in wire


def test_an_answer_that_does_not_validate_is_kept_as_the_client_gave_it():
    odd = {**COMPLETION, "service_tier": "on_demand", "provider": {"name": "lookalike"}}
    answer = built(ChatCompletion, odd)
    data, live = codec_for(ChatCompletion).encode_checked(answer)
    assert live == answer == codec_for(ChatCompletion).decode(data)
    assert live.service_tier == "on_demand"
    assert live.provider == {"name": "lookalike"}
    assert codec_for(ChatCompletion | None).decode(data) == answer


def test_something_else_is_no_answer():
    with pytest.raises(Unserialisable, match=r"\$ is a dict that reads back as an openai"):
        codec_for(ChatCompletion).encode({"service_tier": 5})
    with pytest.raises(Unserialisable, match="declared ChatCompletion, but got list"):
        codec_for(ChatCompletion).encode([])


MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    {
        "role": "assistant",
        "reasoning_content": "a key of another provider",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "42"},
]


def test_messages_for_the_openai_client_are_plain_dicts_and_lose_no_key():
    codec = codec_for(list[ChatCompletionMessageParam])
    data, live = codec.encode_checked(MESSAGES)
    assert live == MESSAGES == codec.decode(data)


def test_other_parameters_of_the_openai_client_come_back():
    tool: ChatCompletionToolParam = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
    }
    asked: ResponseInputParam = [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
    for hint, value in [
        (ChatCompletionToolParam, tool),
        (list[ChatCompletionToolParam] | None, [tool]),
        (ResponseInputParam, asked),
        (str | ResponseInputParam, "Hi"),
    ]:
        data, live = codec_for(hint).encode_checked(value)
        assert live == value == codec_for(hint).decode(data)


def test_a_mixed_conversation_is_kept_or_refused_but_never_changed():
    codec = codec_for(list[ChatCompletionMessageParam | ChatCompletionMessage])
    message = built(ChatCompletion, COMPLETION).choices[0].message
    mixed = [*MESSAGES[:2], message]
    assert codec.encode_checked(mixed)[1] == mixed
    with pytest.raises(Unserialisable, match=r"\$\[2\] is a dict that reads back as"):
        codec.encode(MESSAGES)  # an assistant's dict cannot be told from the model


def test_the_create_method_has_a_union_with_a_stream_and_needs_returns():
    client = openai.AsyncOpenAI(api_key="none")
    with pytest.raises(Unserialisable, match="returns=YourType"):
        codec_for(returns_of(client.chat.completions.create))


def test_aliases_survive_both_ways():
    value = Aliased.model_validate({"async": 1, "b1": "back"})
    value.out = "out"
    data, live = codec_for(Aliased).encode_checked(value)
    assert live == value == codec_for(Aliased).decode(data)
    assert (live.async_, live.out, live.back) == (1, "out", "back")


def test_a_default_that_was_changed_in_place_is_not_lost():
    hotel = Hotel(name="Ritz")
    hotel.rooms.append(7)
    assert "rooms" not in hotel.model_fields_set
    assert codec_for(Hotel).encode_checked(hotel)[1].rooms == [7]
    assert codec_for(dict[str, Hotel]).encode_checked({"a": hotel})[1]["a"].rooms == [7]


@pytest.mark.parametrize("hint, wrap", [(Stamped, lambda s: s), (list[Stamped], lambda s: [s])])
def test_a_field_filled_by_code_keeps_its_value_at_every_read(hint, wrap):
    value = wrap(Stamped())
    data, live = codec_for(hint).encode_checked(value)
    assert live == value == codec_for(hint).decode(data)


def test_private_and_computed_attributes_are_not_values():
    value = Private(name="a")
    value._cache = 5
    data, live = codec_for(Private).encode_checked(value)
    assert data == b'{"name":"a"}'
    assert (live.name, live.shout, live._cache) == ("a", "A", 0)


def test_unions_of_models_come_back_as_what_they_were():
    for hint, value in [
        (Cat | Dog, Dog()),
        (list[Cat | Dog], [Dog(), Cat()]),
        (list[Pet], [Dog(name="Bo"), Cat(lives=3)]),
        (dict[str, Pet | None], {"a": Dog(kind="dog"), "b": None}),
        (Trip, Trip(Hotel(name="Ritz"), [Cat(kind="cat"), Dog(kind="dog")])),
        (Page[Pet], Page[Pet](items=[Cat(kind="cat")])),
    ]:
        try:
            _, live = codec_for(hint).encode_checked(value)
        except Unserialisable as refusal:  # both are {} on the wire when nothing was set
            pytest.fail(str(refusal))
        assert live == value
        assert repr(live) == repr(value)


def test_a_model_under_any_is_refused_inside_a_dataclass_too():
    assert codec_for(Page[Any]).encode_checked(Page[Any](items=[1, "a"]))[1].items == [1, "a"]
    with pytest.raises(Unserialisable, match=r"\$\.items\[0\] is a .*Dog that reads back as a dict"):
        codec_for(Page[Any]).encode(Page[Any](items=[Dog()]))
    with pytest.raises(Unserialisable, match="BigDog"):
        codec_for(Page[Dog]).encode(Page[Dog](items=[BigDog()]))
    with pytest.raises(Unserialisable, match=r"UUID that reads back as a str"):
        codec_for(Page[Any]).encode(Page[Any](items=[UUID(int=1)]))


def test_a_pydantic_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr("pydantic.VERSION", "2.10.6")
    with pytest.raises(Unserialisable, match=r"pydantic 2\.10\.6 is too old; install 2\.11 or later"):
        codec_for(list[Trip | Cat | Hotel])
