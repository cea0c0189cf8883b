"""Opens the page and asks the model, from outside. Usage: end_to_end.py ADDRESS."""

import sys

import httpx
import openai

PATIENCE = 40  # tries; a model that sleeps says to come back in 30 s, and wakes in some ten minutes
QUESTION = [{"role": "user", "content": "Who are you?"}]


def main(address: str) -> None:
    """Raise unless page and model answer; or, where there is a login, unless it stands in front of both."""
    page = httpx.get(address, timeout=30)
    refused = httpx.get(f"{address}/v1/models", timeout=30).status_code
    if page.is_redirect and refused == httpx.codes.UNAUTHORIZED:
        print(f"{address}: a login stands in front of page and API")
        return
    page.raise_for_status()
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=PATIENCE, timeout=120) as client:
        model = next(iter(client.models.list())).id
        answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=64)
        said = answer.choices[0].message.content
        assert said, "the model answered with nothing"
        *_, last = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=64, stream=True)
        assert last.choices[0].finish_reason, "a stream ended before its answer"
    print(f"{address}: {model} says: {said}")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
