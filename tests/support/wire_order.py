"""An order of a task with all its fields, for the samples of the internal protocol."""

from __future__ import annotations

from anabranch.core.request.cache_fields import Cache
from anabranch.core.request.limits import Concurrency, RateLimit
from anabranch.core.request.models import Compensation, Expansion, RetryPolicy
from anabranch.core.request.resources import Requires
from anabranch.core.wire import messages as m
from anabranch.core.wire.task_order import BranchOrder, UndoneTask

ORDER = m.TaskOrder(
    name="page ü",
    agent="http",
    needs=(
        m.Need(key="pages", kind="context"),
        m.Need(key="hint", kind="absent", optional=True),
        m.Need(key="go", kind="external"),
        m.Need(key="{fetch/plan}", kind="task", optional=True, unless_failed=True),
    ),
    context_keys=("lang",),
    result_keys=("text", "notes"),
    shares={"notes": 1},
    optional_result_keys=("notes",),
    message_template="get {page.url}",
    shared_instructions="be kind",
    inputs={"url": "{page.url}", "n": [1, None, 2.5]},
    tools=("search",),
    expansion=Expansion(type="array", array_mapping={"page": "pages"}, output_format="separate"),
    retry=RetryPolicy(strategy="exponential", max_attempts=4, delay="250ms"),
    max_deliveries=3,
    timeout=30.0,
    tolerated_failures="5%",
    on_failure="hold",
    max_concurrency=8,
    when={"field": "lang", "operator": "equals", "value": "en"},
    branch=BranchOrder(key="{fetch/(switch)}", case=1),
    announces=True,
    error_key="failed_page",
    in_loop="(loop)",
    loop_names=("item", "last"),
    retriers=(RetryPolicy(strategy="fixed", errors=("TimeoutError",)),),
    requires=Requires(cpu="500m", memory="8Gi", labels=["ssd"]),
    compensate=Compensation(agent="unfetch", inputs={"url": "{page.url}"}),
    budget=(5_000_000_000, None, 60_000_000, 100),
    estimate=(10_000_000, 500, None, None),
    cache=Cache(key="{page.id}", ttl="1h", version="2", scope="session"),
    undoes=UndoneTask(group="fetch", task="page ü", inputs={"page": "{page}"}),
    concurrency=Concurrency(key="db-{page.host}", limit=3, on_full="reject"),
    rate_limit=RateLimit(key="http", limit=10, per="1m", burst=2),
)
