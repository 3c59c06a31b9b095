// What okms-sdk-go and the okms CLI send, and how strictly they decode, in code of our own: neither
// module can be fetched where the tests run. So this is no proof that those programs work, only that
// the rules known about them are kept: a result counts with status 200 (or 204 without one) and a JSON
// content type alone, paths are one encoded segment, and errors have typed fields.
package okms

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

type metadata struct {
	CasRequired            *bool              `json:"casRequired"`
	CreatedAt              *string            `json:"createdAt"`
	CurrentVersion         *uint32            `json:"currentVersion"`
	CustomMetadata         *map[string]string `json:"customMetadata"`
	DeactivateVersionAfter *string            `json:"deactivateVersionAfter"`
	MaxVersions            *uint32            `json:"maxVersions"`
	OldestVersion          *uint32            `json:"oldestVersion"`
	UpdatedAt              *string            `json:"updatedAt"`
	Urn                    *string            `json:"urn"`
}

type version struct {
	ID            uint32          `json:"id"`
	State         string          `json:"state"`
	CreatedAt     string          `json:"createdAt"`
	DeactivatedAt *string         `json:"deactivatedAt"`
	Data          *map[string]any `json:"data"`
}

type secret struct {
	Path     *string   `json:"path"`
	Metadata *metadata `json:"metadata"`
	Version  *version  `json:"version"`
	Warnings *[]string `json:"warnings"`
}

type config struct {
	CasRequired            *bool   `json:"casRequired"`
	DeactivateVersionAfter *string `json:"deactivateVersionAfter"`
	MaxVersions            *uint32 `json:"maxVersions"`
}

type failure struct {
	ErrorCode int32     `json:"error_code"`
	ErrorID   string    `json:"error_id"`
	Errors    *[]string `json:"errors"`
	RequestID string    `json:"request_id"`
}

type client struct {
	t    *testing.T
	http *http.Client
}

func connect(t *testing.T) client {
	t.Helper()
	ca, err := os.ReadFile(os.Getenv("OKMSD_CA"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("OKMSD_CA is no certificate")
	}
	settings := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	switch os.Getenv("OKMSD_AUTH") {
	case "cert":
		pair, err := tls.LoadX509KeyPair(os.Getenv("OKMSD_CERT"), os.Getenv("OKMSD_KEY"))
		if err != nil {
			t.Fatal(err)
		}
		settings.Certificates = []tls.Certificate{pair}
	case "token":
		if os.Getenv("OKMSD_TOKEN") == "" {
			t.Fatal("OKMSD_TOKEN is not set")
		}
	default:
		t.Fatalf("OKMSD_AUTH is %q", os.Getenv("OKMSD_AUTH"))
	}
	return client{t, &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: settings}}}
}

// Sends a request as the SDK does; its answer goes into result where it is a 200 with JSON, else it is
// the failure. Without a result, 204 is right.
func (c client) send(method, target string, body any, headers map[string]string, result any) (*failure, http.Header) {
	c.t.Helper()
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	address := os.Getenv("OKMSD_URL") + "/api/" + os.Getenv("OKMSD_OKMS_ID") + target
	request, err := http.NewRequest(method, address, reader)
	if err != nil {
		c.t.Fatal(err)
	}
	// Also without a body: one of the SDK's users sets it on everything.
	request.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	if os.Getenv("OKMSD_AUTH") == "token" {
		request.Header.Set("Authorization", "Bearer "+os.Getenv("OKMSD_TOKEN"))
	}
	answer, err := c.http.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	hasJSON := strings.Contains(answer.Header.Get("Content-Type"), "json")
	switch status := answer.StatusCode; {
	case status == 204 && result == nil && len(text) == 0:
		return nil, answer.Header
	case status == 200 && result != nil && hasJSON:
		if err := json.Unmarshal(text, result); err != nil {
			c.t.Fatalf("%s %s: %v", method, target, err)
		}
		return nil, answer.Header
	case status >= 400 && hasJSON:
		var refused failure
		if err := json.Unmarshal(text, &refused); err != nil {
			c.t.Fatalf("%s %s: %v", method, target, err)
		}
		if refused.Errors == nil || len(*refused.Errors) == 0 || refused.RequestID == "" {
			c.t.Fatalf("%s %s: the error lacks a part: %s", method, target, text)
		}
		return &refused, answer.Header
	default:
		c.t.Fatalf("%s %s: %d with %q", method, target, status, answer.Header.Get("Content-Type"))
		return nil, nil
	}
}

func (c client) must(method, target string, body, result any) {
	c.t.Helper()
	if refused, _ := c.send(method, target, body, nil, result); refused != nil {
		c.t.Fatalf("%s %s: %d %v", method, target, refused.ErrorCode, *refused.Errors)
	}
}

func (c client) refused(code int32, method, target string, body any) {
	c.t.Helper()
	refused, _ := c.send(method, target, body, nil, &map[string]any{})
	if refused == nil || code != 0 && refused.ErrorCode != code {
		c.t.Fatalf("%s %s: is %v, not %d", method, target, refused, code)
	}
}

func equal(t *testing.T, is, want any) {
	t.Helper()
	if fmt.Sprint(is) != fmt.Sprint(want) {
		t.Fatalf("is %v, not %v", is, want)
	}
}

const notFound, versionNotFound = 17125377, 17125378

type object = map[string]any

func TestSecretsV2(t *testing.T) {
	c := connect(t)
	path := fmt.Sprintf("okms-%d/a", time.Now().UnixNano())
	one := "/v2/secret/" + url.PathEscape(path)
	c.refused(notFound, "GET", one, nil)
	var made secret
	c.must("POST", "/v2/secret", object{"path": path, "version": object{"data": object{"k": "1"}}, "metadata": object{"customMetadata": object{"a": "1"}, "maxVersions": 10}}, &made)
	equal(t, *made.Path, path)
	equal(t, *made.Metadata.CurrentVersion, 1)
	equal(t, *made.Metadata.CustomMetadata, map[string]string{"a": "1"})
	equal(t, *made.Metadata.UpdatedAt != "" && *made.Metadata.Urn != "", true)
	c.refused(0, "POST", "/v2/secret", object{"path": path, "version": object{"data": object{}}})

	// The CLI always sends an empty customMetadata, which must wipe nothing.
	var put secret
	c.must("PUT", one+"?cas=1", object{"metadata": object{"customMetadata": object{}}, "version": object{"data": object{"k": "2"}}}, &put)
	equal(t, *put.Metadata.CurrentVersion, 2)
	equal(t, *put.Metadata.CustomMetadata, map[string]string{"a": "1"})
	c.refused(0, "PUT", one+"?cas=1", object{"version": object{"data": object{}}})

	var got secret
	c.must("GET", one, nil, &got)
	equal(t, got.Version.Data == nil, true)
	var full secret
	c.must("GET", one+"?includeData=true&version=1", nil, &full)
	equal(t, *full.Version.Data, object{"k": "1"})
	c.refused(versionNotFound, "GET", one+"?version=9", nil)

	var third, second version
	c.must("POST", one+"/version", object{"data": object{"k": "3"}}, &third)
	equal(t, fmt.Sprint(third.ID, " ", third.State), "3 active")
	c.must("PUT", one+"/version/2", object{"state": "deactivated"}, &second)
	equal(t, fmt.Sprint(second.State, " ", second.Data == nil), "deactivated true")
	var versions []version
	c.must("GET", one+"/version", nil, &versions)
	equal(t, len(versions), 3)
	c.must("DELETE", one, nil, nil)
	c.refused(notFound, "DELETE", one, nil)
}

func TestListV2(t *testing.T) {
	c := connect(t)
	folder := fmt.Sprintf("okms-%d", time.Now().UnixNano())
	for n := range 12 {
		c.must("POST", "/v2/secret", object{"path": fmt.Sprintf("%s/%d", folder, n), "version": object{"data": object{}}}, &secret{})
	}
	seen, cursor := 0, ""
	for {
		headers := map[string]string{"X-Pagination-Size": "10"}
		if cursor != "" {
			headers["X-Pagination-Cursor"] = cursor
		}
		var page []secret
		refused, answered := c.send("GET", "/v2/secret", nil, headers, &page)
		if refused != nil {
			t.Fatal(*refused.Errors)
		}
		for _, item := range page {
			// The CLI dereferences both.
			if item.Metadata.CurrentVersion != nil && strings.HasPrefix(*item.Path, folder+"/") {
				seen++
			}
		}
		cursor = answered.Get("X-Pagination-Cursor-Next")
		// The SDK's iterator ends at an empty page, cursor or not.
		if cursor == "" || len(page) == 0 {
			break
		}
	}
	equal(t, seen, 12)
}

func TestConfig(t *testing.T) {
	c := connect(t)
	var before, after config
	c.must("GET", "/v2/secretConfig", nil, &before)
	t.Cleanup(func() { c.must("PUT", "/v2/secretConfig", before, &config{}) })
	// `okms secret config update` goes to v1.
	c.must("POST", "/v1/secret/config", object{"delete_version_after": "1d", "max_versions": 24}, nil)
	c.must("GET", "/v2/secretConfig", nil, &after)
	equal(t, fmt.Sprint(*after.DeactivateVersionAfter, " ", *after.MaxVersions), "1d 24")
}

func TestVault(t *testing.T) {
	c := connect(t)
	path := url.PathEscape(fmt.Sprintf("okms-%d/v", time.Now().UnixNano()))
	data := "/v1/secret/data/" + path
	type written struct {
		Data *struct {
			Version *uint32 `json:"version"`
		} `json:"data"`
	}
	var first, patched written
	c.must("POST", data, object{"data": object{"a": "1", "b": "2"}}, &first)
	equal(t, *first.Data.Version, 1)
	c.must("PATCH", data, object{"data": object{"b": nil}, "options": object{"cas": 1}}, &patched)
	equal(t, *patched.Data.Version, 2)
	var read struct {
		Data *struct {
			Data *map[string]any `json:"data"`
		} `json:"data"`
	}
	c.must("GET", data+"?version=2", nil, &read)
	equal(t, *read.Data.Data, object{"a": "1"})
	versions := object{"versions": []int{1}}
	c.must("POST", "/v1/secret/delete/"+path, versions, nil)
	c.must("POST", "/v1/secret/undelete/"+path, versions, nil)
	c.must("PUT", "/v1/secret/destroy/"+path, versions, nil)
	c.must("GET", "/v1/secret/subkeys/"+path+"?depth=1", nil, &object{})
	c.must("POST", "/v1/secret/metadata/"+path, object{"max_versions": 4}, nil)
	c.must("PATCH", "/v1/secret/metadata/"+path, object{"custom_metadata": object{"k": "v"}}, nil)
	c.must("GET", "/v1/secret/metadata/"+path, nil, &object{})
	var root struct {
		Data *struct {
			Keys *[]string `json:"keys"`
		} `json:"data"`
	}
	c.must("GET", "/v1/secret/metadata/?list=true", nil, &root)
	equal(t, strings.Contains(fmt.Sprint(*root.Data.Keys), "okms-"), true)
	c.must("DELETE", data, nil, nil)
	c.must("DELETE", "/v1/secret/metadata/"+path, nil, nil)
	c.refused(notFound, "GET", data, nil)
}

// What other software asks first.
func TestServiceKeys(t *testing.T) {
	var list struct {
		Objects     *[]object `json:"objects_list"`
		IsTruncated *bool     `json:"is_truncated"`
	}
	connect(t).must("GET", "/v1/servicekey", nil, &list)
	equal(t, fmt.Sprint(len(*list.Objects), *list.IsTruncated), "0 false")
}
