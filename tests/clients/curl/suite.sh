#!/usr/bin/env bash
# The commands for clients of Vault as they stand in the README, with each credential that curl can show.
# The target comes from the environment, see ../python/hvac_suite.py; README is that file.
set -euo pipefail
: "${README:?}" "${OKMSD_URL:?}" "${OKMSD_OKMS_ID:?}" "${OKMSD_CA:?}" "${OKMSD_AUTH:?}"
export OKMS_ENDPOINT=$OKMSD_URL OKMS_ID=$OKMSD_OKMS_ID VAULT_ADDR=$OKMSD_URL/api/$OKMSD_OKMS_ID
fail() { printf 'not ok: %s\n' "$*" >&2; exit 1; }

commands=$(sed -n '/^### Clients of Vault$/,/^##* /p;' "$README" | grep '^okms_curl ')
passed=0

# run CREDENTIAL…: every command, with these arguments of curl.
run() {
  local credential=("$@") command answer=''
  okms_curl() {
    curl --silent --show-error --fail-with-body --cacert "$OKMSD_CA" "${credential[@]}" \
      --header 'Content-Type: application/json' "$@" || fail "$*"
  }
  # Versions count from 1 on.
  okms_curl --request DELETE "$VAULT_ADDR/v1/secret/metadata/team/app"
  while read -r command; do
    answer=$(eval "$command")
    passed=$((passed + 1))
  done <<<"$commands"
  [[ $answer == *'"data":{"password":"one","user":"app"}'* ]] || fail "the last command prints $answer"
}

case $OKMSD_AUTH in
cert) run --cert "${OKMSD_CERT:?}" --key "${OKMSD_KEY:?}" ;;
token)
  run --header "Authorization: Bearer ${OKMSD_TOKEN:?}"
  run --header "X-Vault-Token: $OKMSD_TOKEN"
  ;;
*) fail "OKMSD_AUTH is $OKMSD_AUTH" ;;
esac
[ "$passed" -ge 7 ] || fail "the README has $passed commands"
printf '%d passed, 0 failed\n' "$passed"
