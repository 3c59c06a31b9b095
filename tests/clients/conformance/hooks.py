"""What our own document cannot say, for schemathesis.

Four of its checks are replaced by ones that let pass what a rule here has a reason for, and nothing else.
"""

import re

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi import checks

# The document's pattern is the API's own: it lets through segments that are empty, `.` or `..`.
NO_PATH = re.compile(r"(^|/)\.{0,2}(/|$)|[^a-zA-Z0-9_.:/=@-]")
# The document's own pattern.
IDEMPOTENCY_KEY = re.compile(r'"([ !#-\[\]-~]|\\["\\]){1,255}"')
# A certificate has no token that could be renewed or revoked.
OF_TOKENS = {"PostTokenRenewSelf", "PostTokenRevokeSelf"}
# At least one of several fields, each of which may be absent or null.
ONE_OF_MANY = {"PutSecretV2", "PutSecretConfigV2"}


def paths(case):
    """The secret paths that a request names."""
    yield (case.path_parameters or {}).get("path")
    if isinstance(case.body, dict):
        yield case.body.get("path")


def has_fraction(value):
    """Whether there is a number such as 1.0, which is a whole number to JSON Schema and none to the API."""
    if isinstance(value, dict):
        return any(map(has_fraction, value.values()))
    if isinstance(value, list):
        return any(map(has_fraction, value))
    return isinstance(value, float)


def is_beyond_schema(case, response, _failure):
    """Whether a refusal hangs on something else than the form of the request."""
    if response.status_code == 422:
        # With which request a key came first is a state of the server.
        return response.json()["error_id"] == "idempotency_key_reused"
    if response.status_code != 400:
        return False
    operation = case.operation.definition.raw["operationId"]
    answer = response.json()
    refusal, text = answer["error_id"], answer["errors"][0]
    if refusal in ("invalid_max_versions", "invalid_version", "invalid_cas"):
        return has_fraction(case.body)
    if refusal == "cas_mismatch":
        # Which version is the current one, and whether the domain wants to be told, are states of the server.
        return True
    if refusal == "invalid_path":
        return any(isinstance(path, str) and NO_PATH.search(path) for path in paths(case))
    if refusal == "field_required":
        return operation in ONE_OF_MANY
    if refusal == "malformed_request" and text.startswith(("cas must", "options.cas must")):
        return has_fraction(case.body) or has_fraction(case.query)
    if refusal == "malformed_request" and text.startswith("the header Idempotency-Key"):
        # Examples and boundary values come without the quotes at times, against the pattern.
        return not IDEMPOTENCY_KEY.fullmatch((case.headers or {}).get("Idempotency-Key", ""))
    if refusal == "malformed_request":
        # A cursor is opaque: only those that an answer gave are good.
        return text.startswith("the cursor is none of this list") or operation in OF_TOKENS
    return False


def is_open(case, _response, _failure):
    """Whether all that is wrong may be a header that the document does not know: anyone may add one."""
    return UNKNOWN_HEADER in (case.headers or {})


def is_one_to_vault(case, _response, failure):
    """Whether it is about PUT in the place of POST, or the other way: to clients of Vault they are one, and the
    document, which is the one of the API, has one of them."""
    more = getattr(failure, "undocumented_methods", None) or [failure.method]
    fewer = getattr(failure, "missing_methods", [])
    return "/v1/" in case.operation.path and set(more) <= {"POST", "PUT"} and not fewer


UNKNOWN_HEADER = "x-schemathesis-unknown-property"


def but_for(name, check, excuse):
    """A check that passes where its failure has an excuse."""

    def checked(ctx, response, case):
        try:
            return check(ctx, response, case)
        except Failure as failure:
            if excuse(case, response, failure):
                return None
            raise

    checked.__name__ = name
    return schemathesis.check(checked)


but_for("valid_data_is_taken", checks.positive_data_acceptance, is_beyond_schema)
but_for("invalid_data_is_refused", checks.negative_data_rejection, is_open)
but_for("other_methods_are_refused", checks.unsupported_method, is_one_to_vault)
but_for("allowed_methods_are_documented", checks.allow_header_conformance, is_one_to_vault)
