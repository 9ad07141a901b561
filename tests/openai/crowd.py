"""Two hundred official clients at once, with the retries that they have by default. See run.sh for what it is told by the environment."""

import asyncio
import os
import time

import openai

CLIENTS = 200


async def ask(client):
    answer = await client.completions.create(model="bard", prompt="ROMEO:", max_tokens=10)
    return bool(answer.choices[0].text)


async def main():
    key = os.environ.get("LIME_API_KEY") or "none"
    clients = [openai.AsyncOpenAI(base_url=os.environ["LIME_BASE_URL"], api_key=key) for _ in range(CLIENTS)]
    begun = time.monotonic()
    answers = await asyncio.gather(*map(ask, clients), return_exceptions=True)
    served = sum(answer is True for answer in answers)
    print(f"{served} of {CLIENTS} served in {time.monotonic() - begun:.1f} s")
    if served != CLIENTS:
        raise SystemExit(f"for example: {next(answer for answer in answers if answer is not True)!r}")


asyncio.run(main())
