#!/usr/bin/env bash
# Lint the chart, render it with each file of its ci/ folder, and validate the output against the schemas of each
# Kubernetes version. Usage: HELM=path KUBERNETES_VERSIONS="1.30 1.36" test.sh CHART
set -euo pipefail
chart="$1"
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

for values in "$chart"/ci/*.yaml; do
  name="$(basename "$values" .yaml)"
  "$HELM" lint --strict --quiet "$chart" --values "$values"
  for version in $KUBERNETES_VERSIONS; do
    "$HELM" template check "$chart" --namespace somewhere --kube-version "$version" --values "$values" >"$out/$name.yaml"
    kubernetes-validate --strict --quiet -k "$version" "$out/$name.yaml"
    echo "chart: $name is valid on Kubernetes $version"
  done
done

if "$HELM" template check "$chart" --set agency.replicass=3 >/dev/null 2>"$out/refused"; then
  echo "chart: a misspelt value was accepted" >&2
  exit 1
fi
grep -q replicass "$out/refused" || { cat "$out/refused" >&2; exit 1; }
echo "chart: a misspelt value is refused"
