package okms

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	secretNotFound  = 17125377
	versionNotFound = 17125378
	alreadyExists   = 50438145
)

func of[T any](value T) *T { return &value }

// start gives a client, and a folder of its own for a test.
func start(t *testing.T) (*client, string) {
	t.Helper()
	return connect(t), fmt.Sprintf("okms-%d/%s", time.Now().UnixNano(), strings.ToLower(t.Name()))
}

// unsaid is the metadata that the command line sends where none is given: custom metadata without entries.
var unsaid = &metadataShort{CustomMetadata: &map[string]string{}}

func (c *client) create(t *testing.T, path string, data map[string]any) {
	t.Helper()
	c.createWith(t, createRequest{Path: path, Version: versionShort{data}, Metadata: unsaid})
}

func (c *client) createWith(t *testing.T, request createRequest) {
	t.Helper()
	var made secret
	_, err := c.call("POST", "v2/secret", nil, request, &made)
	must(t, err)
	equal(t, *made.Metadata.CurrentVersion, 1)
}

func (c *client) read(t *testing.T, path string, query url.Values) secret {
	t.Helper()
	var read secret
	_, err := c.call("GET", "v2/secret/"+segment(path), query, nil, &read)
	must(t, err)
	return read
}

func (c *client) update(path string, query url.Values, body updateRequest) (secret, error) {
	var updated secret
	_, err := c.call("PUT", "v2/secret/"+segment(path), query, body, &updated)
	return updated, err
}

func withData() url.Values { return url.Values{"includeData": {"true"}} }

func data(values ...any) map[string]any {
	made := map[string]any{}
	for i := 0; i < len(values); i += 2 {
		made[values[i].(string)] = values[i+1]
	}
	return made
}

func equalData(t *testing.T, is *map[string]any, want map[string]any) {
	t.Helper()
	if is == nil || !reflect.DeepEqual(*is, want) {
		t.Fatalf("is %v, not %v", is, want)
	}
}

// What OVHcloud's own tests of its command line do with one secret, in their order.
func TestSecretOfItsOwnTests(t *testing.T) {
	c, folder := start(t)
	path := folder + "/a"
	request := createRequest{
		Path:    path,
		Version: versionShort{data("login", "admin", "address", data("port", 8080.0))},
		Metadata: &metadataShort{
			CasRequired:            of(true),
			CustomMetadata:         &map[string]string{"team": "X"},
			DeactivateVersionAfter: of("1d"),
			MaxVersions:            of(uint32(10)),
		},
	}
	var made secret
	_, err := c.call("POST", "v2/secret", nil, request, &made)
	must(t, err)
	equal(t, *made.Path, path)
	equal(t, made.Version, (*version)(nil))
	equal(t, *made.Metadata.CurrentVersion, 1)
	equal(t, *made.Metadata.OldestVersion, 0)
	equal(t, *made.Metadata.DeactivateVersionAfter, "1d")
	equal(t, *made.Metadata.CustomMetadata, map[string]string{"team": "X"})
	equal(t, strings.HasSuffix(*made.Metadata.URN, ":"+c.domain+"/secret/"+segment(path)), true)
	for _, moment := range []string{*made.Metadata.CreatedAt, *made.Metadata.UpdatedAt} {
		if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`).MatchString(moment) {
			t.Fatalf("the time is %s", moment)
		}
	}

	_, err = c.call("POST", "v2/secret", nil, request, &secret{})
	refused(t, err, http.StatusConflict, alreadyExists)

	equal(t, c.read(t, path, nil).Version.Data, (*map[string]any)(nil))
	equalData(t, c.read(t, path, withData()).Version.Data, request.Version.Data)

	// It asks for check-and-set from here on. Custom metadata without entries does not take away those
	// that are there.
	_, err = c.update(path, nil, updateRequest{Metadata: unsaid, Version: &versionShort{data("n", 2.0)}})
	refused(t, err, http.StatusBadRequest, 0)
	_, err = c.update(path, url.Values{"cas": {"7"}}, updateRequest{Version: &versionShort{data("n", 2.0)}})
	if text := refused(t, err, http.StatusBadRequest, 0).Error(); !strings.Contains(strings.ToLower(text), "cas") &&
		!strings.Contains(text, "check-and-set") {
		t.Fatalf("says %s", text)
	}
	updated, err := c.update(path, url.Values{"cas": {"1"}},
		updateRequest{Metadata: unsaid, Version: &versionShort{data("n", 2.0)}})
	must(t, err)
	equal(t, *updated.Metadata.CurrentVersion, 2)
	equal(t, *updated.Metadata.CustomMetadata, map[string]string{"team": "X"})

	var added version
	_, err = c.call("POST", "v2/secret/"+segment(path)+"/version", url.Values{"cas": {"2"}},
		versionShort{data("n", 3.0)}, &added)
	must(t, err)
	equal(t, fmt.Sprint(added.ID, " ", added.State), "3 active")

	var changed version
	_, err = c.call("PUT", "v2/secret/"+segment(path)+"/version/3", nil, stateRequest{"deactivated"}, &changed)
	must(t, err)
	equal(t, fmt.Sprint(changed.ID, " ", changed.State, " ", changed.Data == nil), "3 deactivated true")
	if changed.DeactivatedAt == nil || *changed.DeactivatedAt == "" {
		t.Fatal("it does not say since when")
	}
	_, err = c.call("PUT", "v2/secret/"+segment(path)+"/version/3", nil, stateRequest{"gone"}, &version{})
	refused(t, err, http.StatusBadRequest, 0)
	read := c.read(t, path, withData())
	equal(t, *read.Metadata.CurrentVersion, 3)
	equal(t, fmt.Sprint(read.Version.State, " ", read.Version.Data == nil), "deactivated true")

	// The new metadata counts for the data beside it.
	updated, err = c.update(path, nil, updateRequest{
		Metadata: &metadataShort{CasRequired: of(false), CustomMetadata: &map[string]string{}},
		Version:  &versionShort{data("n", 4.0)},
	})
	must(t, err)
	equal(t, fmt.Sprint(*updated.Metadata.CurrentVersion, " ", *updated.Metadata.CasRequired), "4 false")
	equal(t, *updated.Metadata.DeactivateVersionAfter, "1d")
	equal(t, *updated.Metadata.MaxVersions, 10)

	var versions []version
	_, err = c.call("GET", "v2/secret/"+segment(path)+"/version", nil, nil, &versions)
	must(t, err)
	equal(t, len(versions), 4)
	for _, each := range versions {
		equal(t, each.Data, (*map[string]any)(nil))
	}

	_, err = c.call("DELETE", "v2/secret/"+segment(path), nil, nil, nil)
	must(t, err)
	_, err = c.call("GET", "v2/secret/"+segment(path), nil, nil, &secret{})
	refused(t, err, http.StatusNotFound, secretNotFound)
}

func TestVersions(t *testing.T) {
	c, folder := start(t)
	c.create(t, folder, data("n", 1.0))
	_, err := c.update(folder, nil, updateRequest{Version: &versionShort{data("n", 2.0)}})
	must(t, err)
	at := func(number int) string { return fmt.Sprintf("v2/secret/%s/version/%d", segment(folder), number) }
	var read version
	_, err = c.call("GET", at(1), withData(), nil, &read)
	must(t, err)
	equalData(t, read.Data, data("n", 1.0))
	query := withData()
	query.Set("version", "1")
	equalData(t, c.read(t, folder, query).Version.Data, data("n", 1.0))
	// The command line sends 0 where no version is named.
	_, err = c.call("GET", at(0), nil, nil, &version{})
	refused(t, err, http.StatusBadRequest, 0)
	_, err = c.call("GET", at(3), nil, nil, &version{})
	refused(t, err, http.StatusNotFound, versionNotFound)
	for _, state := range []string{"deactivated", "active", "deleted"} {
		var changed version
		_, err = c.call("PUT", at(1), nil, stateRequest{state}, &changed)
		must(t, err)
		equal(t, changed.State, state)
	}
	_, err = c.call("PUT", at(1), nil, stateRequest{"active"}, &version{})
	refused(t, err, http.StatusBadRequest, 0)
	var deleted version
	_, err = c.call("GET", at(1), withData(), nil, &deleted)
	must(t, err)
	equal(t, fmt.Sprint(deleted.State, " ", deleted.Data == nil), "deleted true")
}

func TestListsGoOnUntilTheyEnd(t *testing.T) {
	c, folder := start(t)
	var wanted, found []string
	for n := range 25 {
		wanted = append(wanted, fmt.Sprintf("%s/%02d", folder, n))
		c.create(t, wanted[n], data())
	}
	// What the command line asks for by itself, and the most that its help speaks of.
	for _, size := range []string{"100", "500"} {
		c.header.Set("X-Pagination-Size", size)
		var page []secret
		_, err := c.call("GET", "v2/secret", nil, nil, &page)
		must(t, err)
		equal(t, len(page) >= 25, true)
	}
	c.header.Set("X-Pagination-Size", "10")
	for {
		var page []secret
		header, err := c.call("GET", "v2/secret", nil, nil, &page)
		must(t, err)
		for _, item := range page {
			// Read without a look by the command line.
			if item.Path == nil || item.Metadata == nil {
				t.Fatal("a secret without its path or its metadata")
			}
			found = append(found, *item.Path)
		}
		cursor := header.Get("X-Pagination-Cursor-Next")
		if cursor == "" {
			break
		}
		// The iterator ends at a page without items, whatever follows.
		if len(page) == 0 || len(page) > 10 {
			t.Fatalf("a page of %d", len(page))
		}
		c.header.Set("X-Pagination-Cursor", cursor)
	}
	found = slices.DeleteFunc(found, func(path string) bool { return !strings.HasPrefix(path, folder+"/") })
	equal(t, found, wanted)
}

// What the provider of External Secrets does to write and to list.
func TestExternalSecrets(t *testing.T) {
	c, folder := start(t)
	// It names a type for bodies that are not there.
	c.header.Set("Content-Type", "application/json")
	_, err := c.call("GET", "v2/secret", nil, nil, &[]secret{})
	must(t, err)
	_, err = c.call("GET", "v2/secret/"+segment(folder), nil, nil, &secret{})
	refused(t, err, http.StatusNotFound, secretNotFound)
	for _, name := range []string{"/a", "/a/b", "/c/d"} {
		c.createWith(t, createRequest{Path: folder + name, Version: versionShort{data("n", name)}})
	}
	read := c.read(t, folder+"/a", withData())
	equalData(t, read.Version.Data, data("n", "/a"))
	current := url.Values{"cas": {fmt.Sprint(*read.Metadata.CurrentVersion)}}
	_, err = c.update(folder+"/a", current, updateRequest{Version: &versionShort{data("n", "other")}})
	must(t, err)
	equalData(t, c.read(t, folder+"/a", withData()).Version.Data, data("n", "other"))
	listed := func(path string) []string {
		var list answer[secretMetadata]
		_, err := c.call("GET", "v1/secret/metadata/"+path, url.Values{"list": {"true"}}, nil, &list)
		must(t, err)
		return *list.Data.Keys
	}
	equal(t, slices.Contains(listed(""), strings.Split(folder, "/")[0]+"/"), true)
	equal(t, listed(segment(folder)), []string{"a", "a/", "c/"})
	equal(t, listed(segment(folder+"/c")), []string{"d"})
	_, err = c.call("DELETE", "v2/secret/"+segment(folder+"/a"), nil, nil, nil)
	must(t, err)
	_, err = c.call("DELETE", "v2/secret/"+segment(folder+"/a"), nil, nil, nil)
	refused(t, err, http.StatusNotFound, secretNotFound)
}

// What Infisical asks to see whether it is let in, and how it keeps a secret in step.
func TestInfisical(t *testing.T) {
	c, folder := start(t)
	var keys serviceKeys
	_, err := c.call("GET", "v1/servicekey", nil, nil, &keys)
	must(t, err)
	if keys.Objects == nil || len(*keys.Objects) != 0 || keys.IsTruncated == nil || *keys.IsTruncated {
		t.Fatalf("is %v", keys)
	}
	_, err = c.call("GET", "v2/secret/"+segment(folder), withData(), nil, &secret{})
	refused(t, err, http.StatusNotFound, 0)
	c.createWith(t, createRequest{Path: folder, Version: versionShort{data("a", "1")}})
	// When the last key goes, the data is an object without any.
	_, err = c.update(folder, url.Values{"cas": {"1"}}, updateRequest{Version: &versionShort{data()}})
	must(t, err)
	equalData(t, c.read(t, folder, withData()).Version.Data, data())
}

// The command line reads the configuration by one API set and changes it by the other.
func TestConfiguration(t *testing.T) {
	c, folder := start(t)
	var before configV2
	_, err := c.call("GET", "v2/secretConfig", nil, nil, &before)
	must(t, err)
	t.Cleanup(func() {
		_, err := c.call("PUT", "v2/secretConfig", nil, before, &configV2{})
		must(t, err)
	})
	_, err = c.call("POST", "v1/secret/config", nil,
		config{DeleteVersionAfter: of("1d"), MaxVersions: of(uint32(24))}, nil)
	must(t, err)
	var after configV2
	_, err = c.call("GET", "v2/secretConfig", nil, nil, &after)
	must(t, err)
	equal(t, fmt.Sprint(*after.DeactivateVersionAfter, " ", *after.MaxVersions), "1d 24")
	equal(t, *after.CasRequired, *before.CasRequired)
	var v1 answer[config]
	_, err = c.call("GET", "v1/secret/config", nil, nil, &v1)
	must(t, err)
	equal(t, fmt.Sprint(*v1.Data.DeleteVersionAfter, " ", *v1.Data.MaxVersions), "24h0m0s 24")
	_, err = c.call("PUT", "v2/secretConfig", nil, configV2{CasRequired: of(true)}, &after)
	must(t, err)
	equal(t, fmt.Sprint(*after.CasRequired, " ", *after.MaxVersions), "true 24")
	// What is new has nothing to compare with.
	c.create(t, folder, data())
	_, err = c.update(folder, nil, updateRequest{Version: &versionShort{data()}})
	refused(t, err, http.StatusBadRequest, 0)
	_, err = c.call("PUT", "v2/secretConfig", nil, configV2{MaxVersions: of(uint32(24001))}, &configV2{})
	refused(t, err, http.StatusBadRequest, 0)
}

// Every operation in Vault's form, as the SDK sends it.
func TestVaultForm(t *testing.T) {
	c, folder := start(t)
	at := func(kind string) string { return "v1/secret/" + kind + "/" + segment(folder) }
	write := func(method string, request dataRequest) (versionMetadata, error) {
		var written answer[versionMetadata]
		_, err := c.call(method, at("data"), nil, request, &written)
		if err != nil {
			return versionMetadata{}, err
		}
		if written.RequestID == nil || *written.RequestID == "" {
			t.Fatal("no id of the request")
		}
		return *written.Data, nil
	}
	written, err := write("POST", dataRequest{Data: of(data("a", 1.0, "b", data("c", "d")))})
	must(t, err)
	equal(t, *written.Version, 1)
	_, err = write("POST", dataRequest{Data: of(data()), Options: &options{Cas: of(uint32(0))}})
	refused(t, err, http.StatusBadRequest, 0)
	written, err = write("PATCH", dataRequest{Data: of(data("a", nil, "e", 2.0)), Options: &options{Cas: of(uint32(1))}})
	must(t, err)
	equal(t, *written.Version, 2)
	var read answer[secretData]
	_, err = c.call("GET", at("data"), nil, nil, &read)
	must(t, err)
	equalData(t, read.Data.Data, data("b", data("c", "d"), "e", 2.0))
	equal(t, *read.Data.Metadata.Version, 2)
	equal(t, *read.Data.Metadata.DeletionTime, "")
	_, err = c.call("GET", at("data"), url.Values{"version": {"1"}}, nil, &read)
	must(t, err)
	equal(t, *read.Data.Metadata.Version, 1)
	var keys answer[subkeys]
	_, err = c.call("GET", at("subkeys"), url.Values{"depth": {"1"}, "version": {"2"}}, nil, &keys)
	must(t, err)
	equalData(t, keys.Data.Subkeys, data("b", nil, "e", nil))

	_, err = c.call("DELETE", at("data"), nil, nil, nil)
	must(t, err)
	_, err = c.call("GET", at("data"), nil, nil, &read)
	var lost secretData
	must(t, json.Unmarshal(refused(t, err, http.StatusNotFound, 0).Data, &lost))
	equal(t, fmt.Sprint(lost.Data == nil, " ", *lost.Metadata.Version, " ", *lost.Metadata.Destroyed), "true 2 false")
	_, err = write("PATCH", dataRequest{Data: of(data("x", 1.0))})
	var unpatched versionMetadata
	must(t, json.Unmarshal(refused(t, err, http.StatusNotFound, 0).Data, &unpatched))
	equal(t, *unpatched.Version, 2)
	_, err = c.call("POST", at("undelete"), nil, versionsRequest{[]uint32{2}}, nil)
	must(t, err)
	_, err = c.call("POST", at("delete"), nil, versionsRequest{[]uint32{1}}, nil)
	must(t, err)
	_, err = c.call("PUT", at("destroy"), nil, versionsRequest{[]uint32{2}}, nil)
	must(t, err)

	_, err = c.call("POST", at("metadata"), nil, updatableMetadata{
		config:         config{MaxVersions: of(uint32(5)), DeleteVersionAfter: of("10h30m10s")},
		CustomMetadata: &map[string]string{"a": "1", "b": "2"},
	}, nil)
	must(t, err)
	_, err = c.call("PATCH", at("metadata"), nil, updatableMetadata{
		config:         config{CasRequired: of(true)},
		CustomMetadata: &map[string]string{"b": "3"},
	}, nil)
	must(t, err)
	var told answer[secretMetadata]
	_, err = c.call("GET", at("metadata"), nil, nil, &told)
	must(t, err)
	equal(t, *told.Data.CustomMetadata, map[string]string{"a": "1", "b": "3"})
	equal(t, fmt.Sprint(*told.Data.MaxVersions, " ", *told.Data.DeleteVersionAfter, " ", *told.Data.CasRequired),
		"5 10h30m10s true")
	equal(t, *told.Data.CurrentVersion, 2)
	equal(t, *(*told.Data.Versions)["1"].DeletionTime != "", true)
	equal(t, *(*told.Data.Versions)["1"].Destroyed, false)
	equal(t, *(*told.Data.Versions)["2"].Destroyed, true)
	equal(t, strings.HasSuffix(*told.Data.URN, "/secret/"+segment(folder)), true)
	equal(t, told.Data.Keys, (*[]string)(nil))

	_, err = c.call("DELETE", at("metadata"), nil, nil, nil)
	must(t, err)
	_, err = c.call("GET", at("metadata"), nil, nil, &told)
	refused(t, err, http.StatusNotFound, secretNotFound)
}

func TestStrangersAreNobody(t *testing.T) {
	c := connect(t)
	transport := c.http.Transport.(*http.Transport)
	transport.TLSClientConfig.Certificates = nil
	c.header.Set("Authorization", "Bearer wrong")
	for _, path := range []string{"v2/secret", "v2/secretConfig", "v1/secret/config", "v1/servicekey"} {
		_, err := c.call("GET", path, nil, nil, &map[string]any{})
		refused(t, err, http.StatusUnauthorized, 0)
	}
}
