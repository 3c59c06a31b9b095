"""Every KV2 method of hvac against one server.

The target comes from the environment:

OKMSD_URL      https://localhost:port
OKMSD_OKMS_ID  the domain; empty where the server is a Vault or an OpenBao, whose API has no domains
OKMSD_CA       file of the authority that the server's certificate is from
OKMSD_AUTH     `cert`, with OKMSD_CERT and OKMSD_KEY, or `token`, with OKMSD_TOKEN

It changes the configuration of the domain and sets it back, so it wants a domain of its own.
"""

import inspect
import os
import sys
import unittest
import uuid

import hvac
from hvac.api.secrets_engines import KvV2

DOMAIN = os.environ.get("OKMSD_OKMS_ID", "")
BASE = os.environ["OKMSD_URL"] + (f"/api/{DOMAIN}" if DOMAIN else "")
AUTH = os.environ["OKMSD_AUTH"]
# OpenBao rounds numbers that a double does not hold; okmsd gives back what was written.
BIG = 2**53 + 1 if DOMAIN else 2**53
CALLED = set()


def files():
    return os.environ["OKMSD_CERT"], os.environ["OKMSD_KEY"]


def connect(auth=AUTH, token=None):
    """A client that notes which KV2 methods are called."""
    if auth == "cert":
        client = hvac.Client(url=BASE, verify=os.environ["OKMSD_CA"], cert=files())
    elif auth == "token":
        token = token or os.environ["OKMSD_TOKEN"]
        client = hvac.Client(url=BASE, verify=os.environ["OKMSD_CA"], token=token)
    else:
        sys.exit(f"OKMSD_AUTH is {auth!r}, not cert or token")
    return client


class Noted:
    """hvac's KV2, which notes the name of each method that is called."""

    def __init__(self, kv):
        self._kv = kv

    def __getattr__(self, name):
        CALLED.add(name)
        return getattr(self._kv, name)


class Suite(unittest.TestCase):
    def setUp(self):
        self.client = connect()
        self.kv = Noted(self.client.secrets.kv.v2)
        self.folder = f"hvac-{uuid.uuid4().hex}"
        self.path = f"{self.folder}/a"

    def data(self, path=None, **arguments):
        answer = self.kv.read_secret_version(
            path or self.path, raise_on_deleted_version=True, **arguments
        )
        return answer["data"]["data"]

    def versions(self):
        return self.kv.read_secret_metadata(self.path)["data"]["versions"]

    def write(self, count):
        for number in range(1, count + 1):
            self.kv.create_or_update_secret(self.path, {"n": number})

    def test_what_is_written_is_read(self):
        value = {"text": "päss 'word\"\n", "big": BIG, "nested": {"list": [1, None, True, {}]}, "": ""}
        written = self.kv.create_or_update_secret(self.path, value)["data"]
        self.assertEqual(written["version"], 1)
        self.assertEqual(written["deletion_time"], "")
        self.assertIs(written["destroyed"], False)
        self.assertIsNone(written["custom_metadata"])
        answer = self.kv.read_secret(self.path, raise_on_deleted_version=True)
        self.assertEqual(answer["data"]["data"], value)
        self.assertEqual(answer["data"]["metadata"], written)
        self.assertTrue(answer["request_id"])

    def test_versions_are_read_by_number(self):
        self.write(3)
        self.assertEqual(self.data(), {"n": 3})
        for number in 1, 2, 3:
            self.assertEqual(self.data(version=number), {"n": number})
        with self.assertRaises(hvac.exceptions.InvalidPath):
            self.data(version=4)

    def test_an_unknown_secret_is_an_invalid_path(self):
        for raising in True, False:
            with self.assertRaises(hvac.exceptions.InvalidPath):
                self.kv.read_secret_version(self.path, raise_on_deleted_version=raising)
        with self.assertRaises(hvac.exceptions.InvalidPath):
            self.kv.read_secret_metadata(self.path)
        with self.assertRaises(hvac.exceptions.InvalidPath):
            self.kv.patch(self.path, {"a": 1})

    def test_check_and_set(self):
        self.kv.create_or_update_secret(self.path, {"n": 1}, cas=0)
        for wrong in 0, 2:
            with self.assertRaisesRegex(hvac.exceptions.InvalidRequest, "check-and-set"):
                self.kv.create_or_update_secret(self.path, {"n": 2}, cas=wrong)
        self.kv.create_or_update_secret(self.path, {"n": 2}, cas=1)
        self.kv.update_metadata(self.path, cas_required=True)
        with self.assertRaisesRegex(hvac.exceptions.InvalidRequest, "check-and-set"):
            self.kv.create_or_update_secret(self.path, {"n": 3})
        self.kv.create_or_update_secret(self.path, {"n": 3}, cas=2)
        self.assertEqual(self.data(), {"n": 3})

    def test_patch_merges(self):
        self.kv.create_or_update_secret(self.path, {"a": 1, "b": 2})
        self.assertEqual(self.kv.patch(self.path, {"b": 3, "c": 4})["data"]["version"], 2)
        self.assertEqual(self.data(), {"a": 1, "b": 3, "c": 4})
        self.assertEqual(self.data(version=1), {"a": 1, "b": 2})

    def test_a_deleted_version_tells_its_metadata(self):
        self.write(2)
        self.kv.delete_latest_version_of_secret(self.path)
        with self.assertRaises(hvac.exceptions.InvalidPath):
            self.kv.read_secret_version(self.path, raise_on_deleted_version=True)
        answer = self.kv.read_secret_version(self.path, raise_on_deleted_version=False)
        self.assertIsNone(answer["data"]["data"])
        self.assertEqual(answer["data"]["metadata"]["version"], 2)
        self.assertNotEqual(answer["data"]["metadata"]["deletion_time"], "")
        self.assertEqual(self.data(version=1), {"n": 1})

    def test_delete_undelete_and_destroy(self):
        self.write(3)
        self.kv.delete_secret_versions(self.path, [1, 3])
        self.assertEqual([v for v, s in sorted(self.versions().items()) if s["deletion_time"]], ["1", "3"])
        self.kv.undelete_secret_versions(self.path, [3])
        self.assertEqual(self.data(), {"n": 3})
        self.kv.destroy_secret_versions(self.path, [2, 3])
        self.assertEqual([v for v, s in sorted(self.versions().items()) if s["destroyed"]], ["2", "3"])
        self.kv.undelete_secret_versions(self.path, [1, 2, 3])
        self.assertEqual(self.data(version=1), {"n": 1})
        if DOMAIN:
            # okmsd gives a destroyed version the time of that as its deletion time, OpenBao none;
            # hvac hands out the metadata where there is one.
            answer = self.kv.read_secret_version(self.path, version=2, raise_on_deleted_version=False)
            self.assertIsNone(answer["data"]["data"])
            self.assertIs(answer["data"]["metadata"]["destroyed"], True)
        with self.assertRaises(hvac.exceptions.InvalidPath) as caught:
            self.kv.read_secret_version(self.path, version=2, raise_on_deleted_version=True)
        self.assertIs(caught.exception.json["data"]["metadata"]["destroyed"], True)

    def test_metadata(self):
        custom = {"project": "A", "team": "X/y@z"}
        # Before any data: it makes a secret without a version.
        self.kv.update_metadata(
            self.path, max_versions=2, cas_required=False, delete_version_after="24h", custom_metadata=custom
        )
        metadata = self.kv.read_secret_metadata(self.path)["data"]
        self.assertEqual(metadata["current_version"], 0)
        self.assertEqual(metadata["custom_metadata"], custom)
        self.assertEqual(metadata["max_versions"], 2)
        self.assertIs(metadata["cas_required"], False)
        self.assertEqual(metadata["delete_version_after"], "24h0m0s")
        self.write(3)
        metadata = self.kv.read_secret_metadata(self.path)["data"]
        self.assertEqual(sorted(metadata["versions"]), ["2", "3"])
        self.assertEqual(metadata["oldest_version"], 2)
        answer = self.kv.read_secret(self.path, raise_on_deleted_version=True)["data"]["metadata"]
        self.assertEqual(answer["custom_metadata"], custom)
        self.assertNotEqual(answer["deletion_time"], "", "when it will expire")
        # hvac sends 0s where nothing is said.
        self.kv.update_metadata(self.path, custom_metadata={"only": "this"})
        metadata = self.kv.read_secret_metadata(self.path)["data"]
        self.assertEqual(metadata["custom_metadata"], {"only": "this"})
        self.assertEqual(metadata["delete_version_after"], "0s")
        self.assertEqual(metadata["max_versions"], 2)

    def test_list(self):
        for name in "b", "a", "a/deep", "c/one", "c/two":
            self.kv.create_or_update_secret(f"{self.folder}/{name}", {})
        self.assertEqual(self.kv.list_secrets(self.folder)["data"]["keys"], ["a", "a/", "b", "c/"])
        self.assertEqual(self.kv.list_secrets(f"{self.folder}/c")["data"]["keys"], ["one", "two"])
        self.assertIn(f"{self.folder}/", self.kv.list_secrets("")["data"]["keys"])
        with self.assertRaises(hvac.exceptions.InvalidPath):
            self.kv.list_secrets(f"{self.folder}/nothing")

    def test_all_goes(self):
        self.write(2)
        self.kv.delete_metadata_and_all_versions(self.path)
        with self.assertRaises(hvac.exceptions.InvalidPath):
            self.kv.read_secret_metadata(self.path)
        self.write(1)
        self.assertEqual(list(self.versions()), ["1"])

    def test_configuration(self):
        before = self.kv.read_configuration()["data"]
        self.addCleanup(
            self.kv.configure,
            max_versions=before["max_versions"],
            cas_required=before["cas_required"],
            delete_version_after=before["delete_version_after"],
        )
        self.kv.configure(max_versions=3, cas_required=True, delete_version_after="10h30m10s")
        after = self.kv.read_configuration()["data"]
        expected = {"max_versions": 3, "cas_required": True, "delete_version_after": "10h30m10s"}
        self.assertEqual({name: after[name] for name in expected}, expected)
        with self.assertRaises(hvac.exceptions.InvalidRequest):
            self.kv.create_or_update_secret(self.path, {})
        for number in range(5):
            self.kv.create_or_update_secret(self.path, {}, cas=number)
        self.assertEqual(sorted(self.versions()), ["3", "4", "5"])

    def test_what_is_wrong_is_an_invalid_request(self):
        self.write(1)
        if DOMAIN:
            # OpenBao takes null for no keys.
            with self.assertRaises(hvac.exceptions.InvalidRequest):
                self.kv.create_or_update_secret(self.path, None)
        for call in (
            lambda: self.kv.create_or_update_secret(self.path, {}, cas="one"),
            lambda: self.kv.update_metadata(self.path, delete_version_after="soon"),
            lambda: self.kv.update_metadata(self.path, custom_metadata={"k": "v" * 513}),
        ):
            with self.assertRaises(hvac.exceptions.InvalidRequest):
                call()
        self.assertEqual(self.data(), {"n": 1})


class Session(unittest.TestCase):
    """Who the client is: what tools ask before and beside the secrets."""

    def test_the_token_knows_itself(self):
        client = connect()
        if AUTH == "cert":
            client.auth.cert.login(cert_pem=files()[0], key_pem=files()[1])
        self.assertTrue(client.is_authenticated())
        data = client.auth.token.lookup_self()["data"]
        self.assertIsInstance(data["ttl"], int)
        self.assertEqual(data["type"], "service")
        self.assertTrue(data["id"])
        self.assertEqual(client.lookup_token()["data"]["id"], data["id"])

    def test_a_wrong_token_is_nobodys(self):
        client = connect("token", "s.wrong")
        self.assertFalse(client.is_authenticated())
        with self.assertRaises((hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized)):
            client.secrets.kv.v2.read_secret_version("a", raise_on_deleted_version=True)

    @unittest.skipUnless(AUTH == "cert", "this run has no certificate")
    def test_a_token_from_a_certificate_reads_secrets_and_can_be_revoked(self):
        client = connect()
        auth = client.auth.cert.login(cert_pem=files()[0], key_pem=files()[1])["auth"]
        self.assertGreater(auth["lease_duration"], 0)
        path = f"hvac-{uuid.uuid4().hex}"
        client.secrets.kv.v2.create_or_update_secret(path, {"a": 1})
        client.auth.token.renew_self()
        client.auth.token.revoke_self()
        with self.assertRaises((hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized)):
            client.secrets.kv.v2.read_secret_version(path, raise_on_deleted_version=True)

    def test_health_and_seal(self):
        client = connect()
        self.assertFalse(client.sys.is_sealed())
        self.assertTrue(client.sys.is_initialized())
        self.assertIs(client.sys.read_leader_status()["ha_enabled"], False)
        self.assertEqual(client.sys.read_health_status().status_code, 200)


class ZCoverage(unittest.TestCase):
    """Runs last: unittest takes classes by name."""

    def test_every_method_was_called(self):
        methods = {name for name, _ in inspect.getmembers(KvV2, inspect.isfunction) if name[0] != "_"}
        self.assertEqual(methods - CALLED, set())


if __name__ == "__main__":
    unittest.main()
