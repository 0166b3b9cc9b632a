"""Writes the steps of a GitHub job as one POSIX shell script, because they share a folder and an environment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anabranch.core.pipelines.github.expressions import (
    Call,
    Constant,
    Expression,
    ExpressionError,
    Not,
    Operation,
    Reference,
    has_status_function,
    split_text,
)
from anabranch.core.pipelines.github.values import JobValues, Value, Variable, constant_text

PROLOGUE = r"""failed=0
RUNNER_TEMP=$(mktemp -d) && GITHUB_WORKSPACE=$(mktemp -d) && cd "$GITHUB_WORKSPACE" || exit 1
GITHUB_ENV=$RUNNER_TEMP/env GITHUB_OUTPUT=$RUNNER_TEMP/output GITHUB_PATH=$RUNNER_TEMP/path
GITHUB_STEP_SUMMARY=$RUNNER_TEMP/summary CI=true
export RUNNER_TEMP GITHUB_WORKSPACE GITHUB_ENV GITHUB_OUTPUT GITHUB_PATH GITHUB_STEP_SUMMARY CI
: > "$GITHUB_ENV" && : > "$GITHUB_OUTPUT" && : > "$GITHUB_PATH" || exit 1
# Copies a script and replaces the names of variables by their values.
fill() {
  awk '{
    out = ""; rest = $0
    while (match(rest, /@@anabranch:[A-Za-z0-9_]+@@/)) {
      out = out substr(rest, 1, RSTART - 1) ENVIRON[substr(rest, RSTART + 12, RLENGTH - 14)]
      rest = substr(rest, RSTART + RLENGTH)
    }
    print out rest
  }'
}
# Reads NAME=VALUE and NAME<<END lines of a file, and prints them as assignments of the shell.
assignments() {
  awk -v prefix="$2" -v q="'" '
    function assign(name, value,  parts, count, at, out) {
      gsub(/[^A-Za-z0-9_]/, "_", name)
      count = split(value, parts, q); out = parts[1]
      for (at = 2; at <= count; at++) out = out q "\\" q q parts[at]
      print "export " prefix name "=" q out q
    }
    last != "" {
      if ($0 == last) { assign(name, value); last = "" }
      else { value = value (lines++ ? "\n" : "") $0 }
      next
    }
    match($0, /^[^=<]+<</) {
      name = substr($0, 1, RLENGTH - 2); last = substr($0, RLENGTH + 1); value = ""; lines = 0; next
    }
    index($0, "=") { assign(substr($0, 1, index($0, "=") - 1), substr($0, index($0, "=") + 1)) }
  ' "$1"
}
end_step() { # prefix of its variables, exit code, whether the job goes on, name
  outcome=success conclusion=success
  if [ "$2" != 0 ]; then
    outcome=failure
    echo "step $4 failed with exit code $2" >&2
    if [ "$3" != true ]; then conclusion=failure failed=1; fi
  fi
  eval "$(assignments "$GITHUB_ENV" "")"
  while IFS= read -r folder; do PATH=$folder:$PATH; done < "$GITHUB_PATH"
  if [ -n "$1" ]; then
    eval "$(assignments "$GITHUB_OUTPUT" "$1")"
    export "$1outcome=$outcome" "$1conclusion=$conclusion"
  fi
  : > "$GITHUB_ENV"; : > "$GITHUB_OUTPUT"; : > "$GITHUB_PATH"
}
skip_step() {
  if [ -n "$1" ]; then export "$1outcome=skipped" "$1conclusion=skipped"; fi
}
json() {
  JSON_VALUE=$1 awk 'BEGIN {
    text = ENVIRON["JSON_VALUE"]; out = ""
    for (at = 1; at <= length(text); at++) {
      char = substr(text, at, 1)
      if (char == "\\" || char == "\"") char = "\\" char
      else if (char == "\n") char = "\\n"
      else if (char == "\t") char = "\\t"
      else if (char ~ /[[:cntrl:]]/) char = " "
      out = out char
    }
    printf "\"%s\"", out
  }'
}
"""
"""The functions that the steps use. The only programs that they need are those of POSIX and `mktemp`."""

SHELLS = {
    "": "bash -e",
    "bash": "bash --noprofile --norc -eo pipefail",
    "sh": "sh -e",
    "python": "python3",
}
"""The programs that read the script of a step, by its `shell`."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was read.

    Attributes:
        prefix: the beginning of its variables in the script; empty without an id.
        condition: its `if`; None for one that requires success.
        environment: its own variables; `directory` and `script` as they stand, with expressions.
        seconds: its timeout.
    """

    label: str
    script: str
    prefix: str = ""
    condition: Expression | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    shell: str = ""
    seconds: int | None = None
    goes_on: bool = False


class ScriptWriter:
    """Writes the script of one job."""

    def __init__(self, values: JobValues) -> None:
        self._values = values
        self._lines = [PROLOGUE.rstrip("\n")]
        self._count = 0
        self._expressions = 0
        self._computed: list[str] = []

    def export(self, name: str, text: str) -> None:
        """Set a variable for all steps, before the first one.

        Raises:
            ExpressionError: an expression of its text has no counterpart.
        """
        word = self._word(text)
        self._lines.append(f"{self._computations()}export {name}={word}")

    def add(self, step: Step) -> None:
        """Add a step.

        Raises:
            ExpressionError: an expression of it has no counterpart.
        """
        self._count += 1
        condition = self._condition(step.condition)
        before = self._computations()
        exports = "".join(f"export {name}={self._word(value)}; " for name, value in step.environment.items())
        exports = self._computations() + exports
        folder = f"cd -- {self._word(step.directory)} && " if step.directory else ""
        limit = f"timeout {step.seconds} " if step.seconds is not None else ""
        file = '"$RUNNER_TEMP/step"'
        script = self._filled(step.script)
        exports += self._computations()
        end = self._delimiter(script)
        self._lines += [
            f"# step {self._count}: {_one_line(step.label)}",
            f"{before}if {condition}; then",
            f"( {exports}{folder}fill > {file} && {limit}{SHELLS[step.shell]} {file} < /dev/null ) <<'{end}'",
            script.rstrip("\n"),
            end,
            f"end_step '{step.prefix}' $? {constant_text(step.goes_on)} {_quoted(_one_line(step.label))}",
            f"else skip_step '{step.prefix}'; fi",
        ]

    def finish(self, outputs: Mapping[str, str]) -> str:
        """The script, whose result has the outputs of the job.

        Raises:
            ExpressionError: an output has an expression without a counterpart.
        """
        fields = [
            f'printf "%s:" {_quoted(_json_text(name))}; json {self._word(text)}' for name, text in outputs.items()
        ]
        body = "; printf ,; ".join(fields)
        if computations := self._computations():
            self._lines.append(computations)
        self._lines.append(f"{{ printf '{{'; {body + '; ' if body else ''}printf '}}'; }} > \"$ANABRANCH_OUTPUT\"")
        self._lines.append("exit $failed")
        return "\n".join(self._lines) + "\n"

    def _delimiter(self, script: str) -> str:
        lines = set(script.split("\n"))
        end = f"END_OF_STEP_{self._count}"
        while end in lines:
            end += "_"
        return end

    def _filled(self, text: str) -> str:
        """A script in which the names of variables stand for values."""
        parts = [word if isinstance(word, str) else self._token(word) for word in self._words(text)]
        return "".join(parts)

    def _token(self, value: Value) -> str:
        if isinstance(value, Constant):
            return constant_text(value.value)
        return f"@@anabranch:{self._values.variable(value)}@@"

    def _word(self, text: str) -> str:
        """A text with expressions as one word of the shell."""
        words = self._words(text)
        return "".join(_quoted(word) if isinstance(word, str) else self._operand(word) for word in words) or "''"

    def _operand(self, value: Value) -> str:
        if isinstance(value, Constant):
            return _quoted(constant_text(value.value))
        return f'"${{{self._values.variable(value)}-}}"'

    # --- expressions ---------------------------------------------------------------------------------------

    def _words(self, text: str) -> list[str | Value]:
        return [part if isinstance(part, str) else self._value(part) for part in split_text(text)]

    def _value(self, expression: Expression) -> Value:
        """The value of an expression; one with operators is computed into a variable first."""
        if isinstance(expression, (Constant, Reference)):
            return self._values.value(expression)
        self._expressions += 1
        name = f"EXPRESSION_{self._expressions}"
        self._computed.append(f"{self._assignment(name, expression)} || :; export {name}; ")
        return Variable(name)

    def _computations(self) -> str:
        """The commands that compute what was used since the last call."""
        commands = "".join(self._computed)
        self._computed.clear()
        return commands

    def _assignment(self, name: str, expression: Expression) -> str:
        """A command that sets a variable to the value, and succeeds where the value is true."""
        match expression:
            case Operation("&&" | "||" as operator, left, right):
                return f"{{ {self._assignment(name, left)} {operator} {self._assignment(name, right)}; }}"
            case Call("format", (Constant(str(form)), *arguments)):
                return f'{{ {name}={self._formatted(form, arguments)}; [ -n "${name}" ]; }}'
            case Constant() | Reference():
                return f"{{ {name}={self._operand(self._values.value(expression))}; {self._test(expression)}; }}"
        return f"if {self._test(expression)}; then {name}=true; else {name}=false; false; fi"

    def _formatted(self, form: str, arguments: Sequence[Expression]) -> str:
        """`format('{0} and {1}', a, b)` as one word of the shell."""
        word = ""
        for part in re.findall(r"\{\{|\}\}|\{\d+\}|[^{}]+|.", form, re.DOTALL):
            if part[1:-1].isdigit() and int(part[1:-1]) < len(arguments):
                word += self._side(arguments[int(part[1:-1])])
            elif part in "{}" or (len(part) > 2 and part[0] == "{"):
                raise ExpressionError(f"the format {form!r} has braces without a value")
            else:
                word += _quoted(part[0] if part in ("{{", "}}") else part)
        return word or "''"

    # --- conditions ------------------------------------------------------------------------------------------

    def _condition(self, expression: Expression | None) -> str:
        if expression is None:
            return _SUCCEEDED
        test = self._test(expression)
        return test if has_status_function(expression) else f"{{ {_SUCCEEDED} && {test}; }}"

    def _test(self, expression: Expression) -> str:
        """A command of the shell that succeeds where the expression is true."""
        match expression:
            case Constant(value):
                return "true" if value else "false"
            case Not(operand):
                return f"! {self._test(operand)}"
            case Operation("&&" | "||" as operator, left, right):
                return f"{{ {self._test(left)} {operator} {self._test(right)}; }}"
            case Operation("==" | "!=" as operator, left, right):
                return f"[ {self._side(left)} {'=' if operator == '==' else '!='} {self._side(right)} ]"
            case Call(name, arguments):
                return self._call(name, arguments)
            case Reference():
                return self._truth(expression)
        raise ExpressionError(f"the operator {getattr(expression, 'operator', '')!r} is not supported in a step")

    def _truth(self, reference: Reference) -> str:
        value = self._values.resolve(reference)
        test = f"[ -n {self._operand(value)} ]"
        if isinstance(value, Variable):
            return test  # outputs and variables are texts, and of these only the empty one is false
        return f"{{ {test} && [ {self._operand(value)} != false ] && [ {self._operand(value)} != 0 ]; }}"

    def _side(self, expression: Expression) -> str:
        return self._operand(self._value(expression))

    def _call(self, name: str, arguments: tuple[Expression, ...]) -> str:
        match name, len(arguments):
            case "success", 0:
                return _SUCCEEDED
            case "failure", 0:
                return '[ "$failed" = 1 ]'
            case "always", 0:
                return "true"
            case "cancelled", 0:
                return "false"  # the program of a cancelled job is stopped
            case "contains" | "startswith" | "endswith", 2:
                whole, part = map(self._side, arguments)
                before = "" if name == "startswith" else "*"
                after = "" if name == "endswith" else "*"
                return f"case {whole} in {before}{part}{after}) true;; *) false;; esac"
        raise ExpressionError(f"the function {name} cannot be converted")


_SUCCEEDED = '[ "$failed" = 0 ]'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _json_text(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def no_script(given: Any) -> bool:
    """True if a step has nothing to run."""
    return not isinstance(given, str) or not given.strip()
