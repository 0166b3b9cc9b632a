"""An agent with tools. `answer` is the model: replace it by a call to yours."""

from anabranch import GiveUp, RetryLater, Task, agent


class RateLimited(Exception):
    retry_after = 0.2


CALLS = {"count": 0}


async def answer(messages: list, tools: list) -> dict:
    """A stub that behaves like a model: it sometimes exceeds its rate limit, asks for a tool, then answers."""
    CALLS["count"] += 1
    if CALLS["count"] % 4 == 0:
        raise RateLimited
    question, last = messages[1]["content"], messages[-1]
    if last["role"] == "tool":
        return {"text": f"{question} It is {last['content']}."}
    if "weather" in tools:
        return {"tool": "weather", "arguments": {"city": question.split()[-1].rstrip("?")}}
    return {"text": f"{question} I cannot know."}


def weather(city: str) -> str:
    return {"Rome": "sunny", "Oslo": "raining"}.get(city, "foggy")


TOOLS = {"weather": weather}
STEPS = 5


@agent("assistant", retry={"strategy": "exponential", "delay": "1s", "max_attempts": 8}, timeout="2m")
async def assistant(task: Task) -> dict:
    messages = [
        {"role": "system", "content": task.instructions},
        {"role": "user", "content": task.message},
    ]
    for step in range(STEPS):
        await task.progress(step / STEPS, f"step {step + 1}")
        try:
            said = await answer(messages, list(task.tools))
        except RateLimited as limited:
            raise RetryLater(after=limited.retry_after) from limited
        if "tool" not in said:
            return {"answer": said["text"], "steps": step + 1}
        if said["tool"] not in task.tools:
            raise GiveUp(f"the model asked for the tool {said['tool']!r}, which this task does not have")
        task.log.info("tool %s", said["tool"], extra=said["arguments"])
        messages.append({"role": "tool", "content": TOOLS[said["tool"]](**said["arguments"])})
    raise GiveUp(f"no answer after {STEPS} steps")
