#!/usr/bin/env bash
# The `bao` command line against one server: all its kv commands, its raw ones, and its session.
# The target comes from the environment, see ../python/hvac_suite.py; BAO is the program.
set -euo pipefail
: "${BAO:?}" "${OKMSD_URL:?}" "${OKMSD_CA:?}" "${OKMSD_AUTH:?}"
HOME=$(mktemp -d)
trap 'rm -r "$HOME"' EXIT
export HOME BAO_FORMAT=json BAO_CACERT=$OKMSD_CA
export BAO_ADDR=$OKMSD_URL${OKMSD_OKMS_ID:+/api/$OKMSD_OKMS_ID}
unset BAO_TOKEN VAULT_TOKEN VAULT_ADDR
case $OKMSD_AUTH in
cert) export BAO_CLIENT_CERT=${OKMSD_CERT:?} BAO_CLIENT_KEY=${OKMSD_KEY:?} ;;
token) export BAO_TOKEN=${OKMSD_TOKEN:?} ;;
*) echo "OKMSD_AUTH is $OKMSD_AUTH" >&2; exit 2 ;;
esac
called=$HOME/called
bao() {
  printf '%s\n' "$*" >>"$called"
  "$BAO" "$@"
}
fail() { printf 'not ok: %s\n' "$*" >&2; exit 1; }

# is WANT COMMAND…: prints exactly that.
is() {
  local want=$1 got
  shift
  got=$("$@") || fail "$* ends with $?"
  [ "$got" = "$want" ] || fail "$* prints '$got', not '$want'"
  passed=$((passed + 1))
}
# refused CODE TEXT COMMAND…: ends with that code and says that.
refused() {
  local code=$1 text=$2 got status=0
  shift 2
  got=$("$@" 2>&1) || status=$?
  [ "$status" = "$code" ] || fail "$* ends with $status, not $code: $got"
  [[ $got == *"$text"* ]] || fail "$* says '$got', not '$text'"
  passed=$((passed + 1))
}
# works COMMAND…
works() {
  local got
  got=$("$@" 2>&1) || fail "$* ends with $?: $got"
  passed=$((passed + 1))
}
# at FILTER COMMAND…: a part of the JSON that the command prints.
at() {
  local filter=$1 text
  shift
  text=$("$@") || return
  python3 -c '
import json, sys
value = json.loads(sys.argv[1])
for name in sys.argv[2].split("/"):
    value = value[int(name) if isinstance(value, list) else name]
print(value if isinstance(value, str) else json.dumps(value, sort_keys=True))
' "$text" "$filter"
}
# flat COMMAND…: the JSON that the command prints, on one line.
flat() {
  local text
  text=$("$@") || return
  python3 -c 'import json, sys; print(json.dumps(json.loads(sys.argv[1])))' "$text"
}
passed=0
p=bao-$$-$RANDOM$RANDOM

# put and get
is 1 at data/version bao kv put -mount=secret "$p/a" a=1 b=two
is '{"a": "1", "b": "two"}' at data/data bao kv get -mount=secret "$p/a"
is two bao kv get -format=table -mount=secret -field=b "$p/a"
is two bao kv get -format=table -field=b "secret/$p/a"
is 2 at data/version bao kv put -mount=secret "$p/a" a=2 b=two
is 1 bao kv get -format=table -mount=secret -version=1 -field=a "$p/a"
refused 2 '' bao kv get -mount=secret -version=9 "$p/a"
refused 2 "No value found at secret/data/$p/none" bao kv get -mount=secret "$p/none"
refused 2 check-and-set bao kv put -mount=secret -cas=1 "$p/a" a=3
is 3 at data/version bao kv put -mount=secret -cas=2 "$p/a" a=3 b=two

# patch, both ways
is 4 at data/version bao kv patch -mount=secret -method=patch "$p/a" c=4
is 5 at data/version bao kv patch -mount=secret -method=rw "$p/a" a=5
is '{"a": "5", "b": "two", "c": "4"}' at data/data bao kv get -mount=secret "$p/a"
is 6 at data/version bao kv patch -mount=secret -cas=5 "$p/a" a=6
refused 2 check-and-set bao kv patch -mount=secret -cas=5 "$p/a" a=7
refused 2 'Code: 404' bao kv patch -mount=secret "$p/none" a=1
refused 2 'No value found' bao kv patch -mount=secret -method=rw "$p/none" a=1
is 1 at data/version bao kv put -mount=secret "$p/patched" a=1 b=2
works bao kv patch -mount=secret -remove-data=a "$p/patched" c=3
is '{"b": "2", "c": "3"}' at data/data bao kv get -mount=secret "$p/patched"

# delete, undelete, destroy, rollback
works bao kv delete -mount=secret "$p/a"
is null at data/data bao kv get -mount=secret "$p/a"
is 6 at data/metadata/version bao kv get -mount=secret "$p/a"
[[ $(bao kv get -format=table -mount=secret "$p/a") == *deletion_time* ]] || fail 'a deleted version as a table'
works bao kv undelete -mount=secret -versions=6 "$p/a"
is 6 bao kv get -format=table -mount=secret -field=a "$p/a"
works bao kv delete -mount=secret -versions=1,2 "$p/a"
works bao kv destroy -mount=secret -versions=2 "$p/a"
is true at data/versions/2/destroyed bao kv metadata get -mount=secret "$p/a"
is false at data/versions/1/destroyed bao kv metadata get -mount=secret "$p/a"
works bao kv undelete -mount=secret -versions=1,2 "$p/a"
is '' at data/versions/1/deletion_time bao kv metadata get -mount=secret "$p/a"
is 7 at data/version bao kv rollback -mount=secret -version=1 "$p/a"
is 1 bao kv get -format=table -mount=secret -field=a "$p/a"
refused 2 '' bao kv rollback -mount=secret -version=2 "$p/a"

# list
works bao kv put -mount=secret "$p/a/deep" a=1
works bao kv put -mount=secret "$p/b" a=1
is '["a", "a/", "b", "patched"]' flat bao kv list -mount=secret "$p"
refused 2 '' bao kv list -mount=secret "$p/none"
# OpenBao's alone. There is no other version to go to than that which the engine has.
if [ -n "${OKMSD_OKMS_ID:-}" ]; then
  refused 2 'Code: 400' bao kv scan -mount=secret "$p"
  refused 2 'Code: 400' bao list -limit=1 "secret/metadata/$p"
  refused 2 'Code: 404' bao kv enable-versioning secret
fi
[[ $(bao kv list secret/) == *"\"$p/\""* ]] || fail 'the root lists it'

# metadata
works bao kv metadata put -mount=secret -max-versions=3 -delete-version-after=26h -cas-required=false \
  -custom-metadata=a=1 -custom-metadata=b=2 "$p/m"
is 0 at data/current_version bao kv metadata get -mount=secret "$p/m"
is 26h0m0s at data/delete_version_after bao kv metadata get -mount=secret "$p/m"
works bao kv metadata patch -mount=secret -custom-metadata=c=3 -remove-custom-metadata=a "$p/m"
is '{"b": "2", "c": "3"}' at data/custom_metadata bao kv metadata get -mount=secret "$p/m"
is 3 at data/max_versions bao kv metadata get -mount=secret "$p/m"
works bao kv metadata put -mount=secret -cas-required=true "$p/m"
refused 2 check-and-set bao kv put -mount=secret "$p/m" a=1
is 1 at data/version bao kv put -mount=secret -cas=0 "$p/m" a=1
works bao kv metadata delete -mount=secret "$p/m"
refused 2 'No value found' bao kv metadata get -mount=secret "$p/m"

# raw
works bao write "secret/data/$p/raw" - <<<'{"data":{"a":{"b":[1]}}}'
is '{"a": {"b": [1]}}' at data/data bao read "secret/data/$p/raw"
is '{"a": {"b": null}}' at data/subkeys bao read "secret/subkeys/$p/raw"
is '["a", "a/", "b", "patched", "raw"]' flat bao list "secret/metadata/$p"
is '{"a": null}' at data/subkeys bao read "secret/subkeys/$p/raw" depth=1
is 1 at data/metadata/version bao read "secret/data/$p/raw" version=1
refused 2 'Code: 400' bao write "secret/data/$p/raw" wrong=form
# Whatever is given as key=value is a text on the wire.
works bao write "secret/delete/$p/raw" versions=1
is null at data/data bao read "secret/data/$p/raw"
works bao write "secret/undelete/$p/raw" versions=1,2
works bao write "secret/metadata/$p/raw" max_versions=4 cas_required=true delete_version_after=90
is 4 at data/max_versions bao read "secret/metadata/$p/raw"
is true at data/cas_required bao read "secret/metadata/$p/raw"
is 1m30s at data/delete_version_after bao read "secret/metadata/$p/raw"
works bao delete "secret/metadata/$p/raw"
refused 2 'No value found' bao read "secret/data/$p/raw"
before=$(at data bao read secret/config)
works bao write secret/config - <<<'{"max_versions":2,"cas_required":false,"delete_version_after":"36h"}'
is 36h0m0s at data/delete_version_after bao read secret/config
works bao write secret/config - <<<"$before"
is "$before" at data bao read secret/config

# the session
if [ "$OKMSD_AUTH" = cert ]; then
  works bao login -method=cert -no-print
  is service at data/type bao token lookup
  is 1 bao kv get -format=table -mount=secret -field=a "$p/b"
  # OpenBao takes it from anyone; here it counts beside its certificate alone.
  if [ -n "${OKMSD_OKMS_ID:-}" ]; then
    (unset BAO_CLIENT_CERT BAO_CLIENT_KEY; refused 2 'Code: 401' bao kv get -mount=secret "$p/b")
  fi
  works bao token renew
  works bao token revoke -self
  status=0
  bao kv get -mount=secret "$p/b" >/dev/null 2>&1 || status=$?
  [ "$status" = 2 ] || fail 'a revoked token still counts'
  rm -f "$HOME/.vault-token" "$HOME/.bao-token"
else
  is service at data/type bao token lookup
  is "$BAO_TOKEN" at data/id bao token lookup
  # From here on the token is the one that the login left in the home folder.
  works bao login -no-print "$BAO_TOKEN"
  unset BAO_TOKEN
  is 1 bao kv get -format=table -mount=secret -field=a "$p/b"
  works bao login -no-print "$OKMSD_TOKEN"
  BAO_TOKEN=wrong refused 2 '' bao kv get -mount=secret "$p/b"
  BAO_TOKEN=wrong refused 2 '' bao token lookup
fi
# It asks for the seal, and then for the leader.
is false at sealed bao status
is true at initialized bao status
is false at ha_enabled bao status

# Every subcommand was called, those that are new included.
for group in kv 'kv metadata'; do
  # shellcheck disable=SC2086
  subcommands=$("$BAO" $group -h | sed -n '/^Subcommands:/,$s/^    \([a-z-]*\) .*/\1/p')
  [ -n "$subcommands" ] || fail "$group has no subcommands"
  for name in $subcommands; do
    [ -z "${OKMSD_OKMS_ID:-}" ] || grep -q "^$group $name " "$called" || fail "$group $name is not called"
  done
done

printf '%d passed, 0 failed\n' "$passed"
