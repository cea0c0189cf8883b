"""Tells a model of tools in words, where its chat template knows nothing of them.

The words follow what Hermes and Qwen models were taught: descriptions between `<tools>` tags, calls between
`<tool_call>` tags, results between `<tool_response>` tags.
"""

import json
from typing import Any

from byollm.server.tools import CLOSE, OPEN

Message = dict[str, Any]

INSTRUCTIONS = f"""You can call the functions described here, one JSON object a line:
<tools>
{{descriptions}}
</tools>
To call one, answer with its name and arguments as JSON:
{OPEN}
{{{{"name": ..., "arguments": {{{{...}}}}}}}}
{CLOSE}"""


def spell_out_tools(messages: list[Message], tools: list[dict[str, Any]]) -> list[Message]:
    """Rewrite a conversation so that it has no roles and fields but the plain ones.

    The tools are described at the end of the system message, calls stand in the text of the assistant's
    messages, and results in messages of the user's.
    """
    written: list[Message] = []
    before = None
    for message in messages:
        role_before, before = before, message["role"]
        plain = {key: value for key, value in message.items() if key not in ("tool_calls", "tool_call_id")}
        if "tool_calls" in message:
            calls = [_spell_out_call(call["function"]) for call in message["tool_calls"]]
            plain["content"] = "\n".join(filter(None, [message["content"], *calls]))
        if message["role"] == "tool":
            plain = {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
            if role_before == "tool":
                written[-1]["content"] += "\n" + plain["content"]  # results of one turn are one message
                continue
        written.append(plain)
    if not tools:
        return written
    descriptions = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    instructions = INSTRUCTIONS.format(descriptions=descriptions)
    if written[0]["role"] == "system":
        first = written[0] | {"content": f"{written[0]['content']}\n\n{instructions}"}
        return [first, *written[1:]]
    return [{"role": "system", "content": instructions}, *written]


def _spell_out_call(function: dict[str, Any]) -> str:
    call = {"name": function["name"], "arguments": function["arguments"]}
    return f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}"
