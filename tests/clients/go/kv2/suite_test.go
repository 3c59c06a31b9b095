// Every method of the KVv2 helper of an API client, and what it asks beside secrets.
//
// The client is Vault's or OpenBao's, by the build tag; see vault_test.go and openbao_test.go.
// The target comes from the environment, see ../../python/hvac_suite.py.
package kv2

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

var ctx = context.Background()

//go:embed suite_test.go
var suite string

// A method that is new, or was forgotten, is seen by this.
func TestEveryMethodIsCalled(t *testing.T) {
	helper := reflect.TypeOf(&KVv2{})
	for i := range helper.NumMethod() {
		name := helper.Method(i).Name
		if !regexp.MustCompile(`\bkv\.` + name + `\b`).MatchString(suite + more) {
			t.Errorf("%s is not called", name)
		}
	}
}

func variable(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set", name)
	}
	return value
}

func domain() string { return os.Getenv("OKMSD_OKMS_ID") }

func connect(t *testing.T) *Client {
	t.Helper()
	config := DefaultConfig()
	config.Address = variable(t, "OKMSD_URL")
	if domain() != "" {
		config.Address += "/api/" + domain()
	}
	tls := TLSConfig{CACert: variable(t, "OKMSD_CA")}
	auth := variable(t, "OKMSD_AUTH")
	switch auth {
	case "cert":
		tls.ClientCert, tls.ClientKey = variable(t, "OKMSD_CERT"), variable(t, "OKMSD_KEY")
	case "token":
	default:
		t.Fatalf("OKMSD_AUTH is %q", auth)
	}
	must(t, config.ConfigureTLS(&tls))
	client, err := NewClient(config)
	must(t, err)
	client.ClearToken()
	if auth == "token" {
		client.SetToken(variable(t, "OKMSD_TOKEN"))
	}
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, is, want any) {
	t.Helper()
	if fmt.Sprint(is) != fmt.Sprint(want) {
		t.Fatalf("is %v, not %v", is, want)
	}
}

func refused(t *testing.T, err error, status int, text string) {
	t.Helper()
	var answer *ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != status || !strings.Contains(err.Error(), text) {
		t.Fatalf("is %v, not a %d with %q", err, status, text)
	}
}

// A secret of its own for a test.
func secret(t *testing.T) (*Client, *KVv2, string) {
	t.Helper()
	client := connect(t)
	path := fmt.Sprintf("go-%d/%s", time.Now().UnixNano(), strings.ToLower(t.Name()))
	return client, client.KVv2("secret"), path
}

func put(t *testing.T, kv *KVv2, path string, count int) {
	t.Helper()
	for n := 1; n <= count; n++ {
		_, err := kv.Put(ctx, path, map[string]any{"n": n})
		must(t, err)
	}
}

func TestPutAndGet(t *testing.T) {
	_, kv, path := secret(t)
	data := map[string]any{"text": "pä\"ss", "nested": map[string]any{"list": []any{"a", nil, true}}}
	written, err := kv.Put(ctx, path, data)
	must(t, err)
	equal(t, written.VersionMetadata.Version, 1)
	read, err := kv.Get(ctx, path)
	must(t, err)
	if !reflect.DeepEqual(read.Data, data) {
		t.Fatalf("is %v", read.Data)
	}
	equal(t, read.VersionMetadata.Version, 1)
	equal(t, read.VersionMetadata.Destroyed, false)
	equal(t, read.VersionMetadata.DeletionTime.IsZero(), true)
	if age := time.Since(read.VersionMetadata.CreatedTime); age < -time.Minute || age > time.Minute {
		t.Fatalf("it is %s old", age)
	}
}

func TestUnknown(t *testing.T) {
	client, kv, path := secret(t)
	for _, call := range []func() error{
		func() error { _, err := kv.Get(ctx, path); return err },
		func() error { _, err := kv.GetVersion(ctx, path, 1); return err },
		func() error { _, err := kv.GetMetadata(ctx, path); return err },
		func() error { _, err := kv.GetVersionsAsList(ctx, path); return err },
	} {
		if err := call(); !errors.Is(err, ErrSecretNotFound) {
			t.Fatalf("is %v", err)
		}
	}
	if _, err := kv.Patch(ctx, path, map[string]any{"a": 1}, WithMergeMethod("patch")); !errors.Is(err, ErrSecretNotFound) {
		t.Fatalf("is %v", err)
	}
	if _, err := kv.Patch(ctx, path, map[string]any{"a": 1}, WithMergeMethod("rw")); !errors.Is(err, ErrSecretNotFound) {
		t.Fatalf("is %v", err)
	}
	// A folder with nothing in it is no error, but nothing.
	listed, err := client.Logical().List("secret/metadata/" + path)
	must(t, err)
	if listed != nil && listed.Data["keys"] != nil {
		t.Fatalf("is %v", listed)
	}
}

func TestVersions(t *testing.T) {
	_, kv, path := secret(t)
	put(t, kv, path, 3)
	for n := 1; n <= 3; n++ {
		read, err := kv.GetVersion(ctx, path, n)
		must(t, err)
		equal(t, read.Data["n"], n)
	}
	list, err := kv.GetVersionsAsList(ctx, path)
	must(t, err)
	equal(t, len(list), 3)
	for i, version := range list {
		equal(t, version.Version, i+1)
	}
	_, err = kv.GetVersion(ctx, path, 4)
	if !errors.Is(err, ErrSecretNotFound) {
		t.Fatalf("is %v", err)
	}
}

func TestCheckAndSet(t *testing.T) {
	_, kv, path := secret(t)
	data := map[string]any{"a": "b"}
	_, err := kv.Put(ctx, path, data, WithCheckAndSet(0))
	must(t, err)
	_, err = kv.Put(ctx, path, data, WithCheckAndSet(0))
	refused(t, err, 400, "check-and-set")
	_, err = kv.Patch(ctx, path, data, WithCheckAndSet(2))
	refused(t, err, 400, "check-and-set")
	_, err = kv.Patch(ctx, path, data, WithCheckAndSet(1))
	must(t, err)
	must(t, kv.PutMetadata(ctx, path, KVMetadataPutInput{CASRequired: true}))
	_, err = kv.Put(ctx, path, data)
	refused(t, err, 400, "check-and-set")
	_, err = kv.Put(ctx, path, data, WithCheckAndSet(2))
	must(t, err)
}

func TestPatch(t *testing.T) {
	for _, method := range []string{"patch", "rw"} {
		_, kv, path := secret(t)
		_, err := kv.Put(ctx, path, map[string]any{"a": "1", "b": "2"})
		must(t, err)
		written, err := kv.Patch(ctx, path, map[string]any{"b": "3", "c": "4"}, WithMergeMethod(method))
		must(t, err)
		equal(t, written.VersionMetadata.Version, 2)
		read, err := kv.Get(ctx, path)
		must(t, err)
		equal(t, read.Data, map[string]any{"a": "1", "b": "3", "c": "4"})
	}
	_, kv, path := secret(t)
	_, err := kv.Put(ctx, path, map[string]any{"a": "1", "b": "2"})
	must(t, err)
	_, err = kv.Patch(ctx, path, map[string]any{"a": nil})
	must(t, err)
	read, err := kv.Get(ctx, path)
	must(t, err)
	equal(t, read.Data, map[string]any{"b": "2"})
}

func TestDeleteUndeleteDestroy(t *testing.T) {
	_, kv, path := secret(t)
	put(t, kv, path, 3)
	must(t, kv.Delete(ctx, path))
	read, err := kv.Get(ctx, path)
	must(t, err)
	if read.Data != nil || read.VersionMetadata.DeletionTime.IsZero() {
		t.Fatalf("is %v", read)
	}
	must(t, kv.Undelete(ctx, path, []int{3}))
	must(t, kv.DeleteVersions(ctx, path, []int{1, 2}))
	must(t, kv.Destroy(ctx, path, []int{2}))
	list, err := kv.GetVersionsAsList(ctx, path)
	must(t, err)
	for i, state := range []string{"true false", "true true", "false false"} {
		equal(t, fmt.Sprint(!list[i].DeletionTime.IsZero(), list[i].Destroyed), state)
	}
	must(t, kv.Undelete(ctx, path, []int{1, 2, 3}))
	read, err = kv.GetVersion(ctx, path, 2)
	must(t, err)
	if read.Data != nil || !read.VersionMetadata.Destroyed {
		t.Fatalf("is %v", read)
	}
	must(t, kv.DeleteMetadata(ctx, path))
	if _, err = kv.GetMetadata(ctx, path); !errors.Is(err, ErrSecretNotFound) {
		t.Fatalf("is %v", err)
	}
}

func TestRollback(t *testing.T) {
	_, kv, path := secret(t)
	put(t, kv, path, 3)
	written, err := kv.Rollback(ctx, path, 1)
	must(t, err)
	equal(t, written.VersionMetadata.Version, 4)
	read, err := kv.Get(ctx, path)
	must(t, err)
	equal(t, read.Data["n"], 1)
	must(t, kv.Destroy(ctx, path, []int{2}))
	if _, err = kv.Rollback(ctx, path, 2); err == nil {
		t.Fatal("it went back to a destroyed version")
	}
}

func TestMetadata(t *testing.T) {
	_, kv, path := secret(t)
	must(t, kv.PutMetadata(ctx, path, KVMetadataPutInput{
		CustomMetadata:     map[string]any{"a": "1", "b": "2"},
		DeleteVersionAfter: 26*time.Hour + 3*time.Second,
		MaxVersions:        2,
	}))
	put(t, kv, path, 3)
	read, err := kv.GetMetadata(ctx, path)
	must(t, err)
	equal(t, read.CurrentVersion, 3)
	equal(t, read.OldestVersion, 2)
	equal(t, read.MaxVersions, 2)
	equal(t, read.CASRequired, false)
	equal(t, read.DeleteVersionAfter, 26*time.Hour+3*time.Second)
	equal(t, read.CustomMetadata, map[string]any{"a": "1", "b": "2"})
	equal(t, len(read.Versions), 2)
	equal(t, read.Versions["3"].DeletionTime.After(time.Now().Add(25*time.Hour)), true)

	required, after, most := true, time.Minute, 5
	must(t, kv.PatchMetadata(ctx, path, KVMetadataPatchInput{
		CASRequired:        &required,
		CustomMetadata:     map[string]any{"a": nil, "c": "3"},
		DeleteVersionAfter: &after,
		MaxVersions:        &most,
	}))
	read, err = kv.GetMetadata(ctx, path)
	must(t, err)
	equal(t, read.CASRequired, true)
	equal(t, read.MaxVersions, 5)
	equal(t, read.DeleteVersionAfter, time.Minute)
	equal(t, read.CustomMetadata, map[string]any{"b": "2", "c": "3"})
	must(t, kv.PatchMetadata(ctx, path, KVMetadataPatchInput{}))
	read, err = kv.GetMetadata(ctx, path)
	must(t, err)
	equal(t, read.CASRequired, true)
	equal(t, read.MaxVersions, 5)
}

func TestList(t *testing.T) {
	client, kv, path := secret(t)
	for _, name := range []string{"b", "a", "a/deep", "c/d"} {
		put(t, kv, path+"/"+name, 1)
	}
	listed, err := client.Logical().List("secret/metadata/" + path)
	must(t, err)
	equal(t, listed.Data["keys"], []any{"a", "a/", "b", "c/"})
	root, err := client.Logical().List("secret/metadata")
	must(t, err)
	equal(t, strings.Contains(fmt.Sprint(root.Data["keys"]), strings.Split(path, "/")[0]+"/"), true)
}

func TestRaw(t *testing.T) {
	client, kv, path := secret(t)
	put(t, kv, path, 1)
	subkeys, err := client.Logical().Read("secret/subkeys/" + path)
	must(t, err)
	equal(t, subkeys.Data["subkeys"], map[string]any{"n": nil})
	_, err = client.Logical().Write("secret/data/"+path, map[string]any{"wrong": "form"})
	refused(t, err, http.StatusBadRequest, "")
	config, err := client.Logical().Read("secret/config")
	must(t, err)
	if _, ok := config.Data["max_versions"]; !ok {
		t.Fatalf("is %v", config.Data)
	}
}

// What the Vault provider of External Secrets does to push a secret, to list and to take it away.
func TestExternalSecrets(t *testing.T) {
	client, _, path := secret(t)
	logical, data, metadata := client.Logical(), "secret/data/"+path, "secret/metadata/"+path
	absent := func() {
		t.Helper()
		for _, address := range []string{data, metadata} {
			read, err := logical.ReadWithContext(ctx, address)
			must(t, err)
			if read != nil {
				t.Fatalf("%s has %v", address, read)
			}
		}
	}
	absent()
	// Before there is any data.
	owner := map[string]any{"managed-by": "external-secrets"}
	_, err := logical.WriteWithContext(ctx, metadata, map[string]any{"custom_metadata": owner})
	must(t, err)
	for version := range 2 {
		told, err := logical.ReadWithContext(ctx, metadata)
		must(t, err)
		equal(t, told.Data["custom_metadata"], owner)
		equal(t, told.Data["current_version"], version)
		_, err = logical.WriteWithContext(ctx, data, map[string]any{
			"data":    map[string]any{"n": version},
			"options": map[string]any{"cas": told.Data["current_version"]},
		})
		must(t, err)
	}
	folder, _, _ := strings.Cut(path, "/")
	listed, err := logical.ReadWithDataWithContext(ctx, "secret/metadata/"+folder, url.Values{"list": {"true"}})
	must(t, err)
	equal(t, len(listed.Data["keys"].([]any)), 1)
	for _, address := range []string{data, metadata} {
		_, err = logical.DeleteWithContext(ctx, address)
		must(t, err)
	}
	absent()
}

func TestSession(t *testing.T) {
	client := connect(t)
	if os.Getenv("OKMSD_AUTH") == "cert" {
		login, err := client.Logical().Write("auth/cert/login", map[string]any{})
		must(t, err)
		client.SetToken(login.Auth.ClientToken)
		if login.Auth.LeaseDuration <= 0 {
			t.Fatalf("it counts for %d seconds", login.Auth.LeaseDuration)
		}
	}
	self, err := client.Auth().Token().LookupSelf()
	must(t, err)
	equal(t, self.Data["type"], "service")
	_, err = self.TokenTTL()
	must(t, err)
	_, err = self.TokenPolicies()
	must(t, err)
	_, err = self.TokenIsRenewable()
	must(t, err)
	health, err := client.Sys().Health()
	must(t, err)
	equal(t, fmt.Sprint(health.Initialized, health.Sealed), "true false")
	seal, err := client.Sys().SealStatus()
	must(t, err)
	equal(t, seal.Sealed, false)
	initialized, err := client.Sys().InitStatus()
	must(t, err)
	equal(t, initialized, true)
	leader, err := client.Sys().Leader()
	must(t, err)
	equal(t, leader.HAEnabled, false)
	if os.Getenv("OKMSD_AUTH") == "cert" {
		must(t, client.Auth().Token().RevokeSelf(""))
		_, err = client.KVv2("secret").Get(ctx, "a")
		var answer *ResponseError
		if !errors.As(err, &answer) || answer.StatusCode != 401 && answer.StatusCode != 403 {
			t.Fatalf("a revoked token gets %v", err)
		}
	}
}
