// A client that asks and reads as OVHcloud's Go SDK for OKMS does, and with it the okms command line
// and the providers that are made with it.
//
// It is not that SDK: neither github.com/ovh/okms-sdk-go nor github.com/ovh/okms-cli can be fetched where
// the tests run. So it does not prove that those programs work, but that what is known about them is
// kept:
//
//   - a path is one segment of the URL, with `%2F` in it, and the URL is taken relative to an endpoint
//     that may have a path of its own;
//   - bodies are application/json, those of PATCH too; optional fields are left out, never null;
//   - a result is there only for 200 with a content type that has `json` in it. Without it the SDK
//     gives back nothing and its callers panic, so here it is an error;
//   - the body of 400, 401, 404, 429 and 500 has to fit the type of errors;
//   - the id of the domain is read from the certificate, where there is one.
//
// It does not try again after an error of the server, so that none goes unseen.
package okms

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

type client struct {
	endpoint *url.URL
	domain   string
	header   http.Header
	http     *http.Client
}

// apiError is an answer that the SDK makes an error of.
type apiError struct {
	Status    int             `json:"-"`
	Code      *int32          `json:"error_code,omitempty"`
	ID        *string         `json:"error_id,omitempty"`
	Errors    *[]string       `json:"errors,omitempty"`
	RequestID *string         `json:"request_id,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
}

func (e *apiError) Error() string {
	text := fmt.Sprintf("status %d", e.Status)
	if e.Code != nil {
		text += fmt.Sprintf(", code %d", *e.Code)
	}
	if e.Errors != nil {
		text += ": " + strings.Join(*e.Errors, "; ")
	}
	return text
}

func variable(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set", name)
	}
	return value
}

func connect(t *testing.T) *client {
	t.Helper()
	endpoint, err := url.Parse(variable(t, "OKMSD_URL") + "/")
	must(t, err)
	pem, err := os.ReadFile(variable(t, "OKMSD_CA"))
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate of an authority")
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	c := &client{endpoint: endpoint, domain: variable(t, "OKMSD_OKMS_ID"), header: http.Header{}}
	switch auth := variable(t, "OKMSD_AUTH"); auth {
	case "cert":
		pair, err := tls.LoadX509KeyPair(variable(t, "OKMSD_CERT"), variable(t, "OKMSD_KEY"))
		must(t, err)
		config.Certificates = []tls.Certificate{pair}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		must(t, err)
		c.domain = domainOf(t, leaf)
	case "token":
		c.header.Set("Authorization", "Bearer "+variable(t, "OKMSD_TOKEN"))
	default:
		t.Fatalf("OKMSD_AUTH is %q", auth)
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	c.http = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	return c
}

// domainOf reads the other name `okms.domain:<id>` of an access certificate.
func domainOf(t *testing.T, certificate *x509.Certificate) string {
	t.Helper()
	principal := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	for _, extension := range certificate.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		if domain, ok := domainIn(extension, principal); ok {
			return domain
		}
	}
	t.Fatal("the certificate names no domain")
	return ""
}

func domainIn(extension pkix.Extension, principal asn1.ObjectIdentifier) (string, bool) {
	var names []asn1.RawValue
	if _, err := asn1.Unmarshal(extension.Value, &names); err != nil {
		return "", false
	}
	for _, name := range names {
		var other struct {
			ID    asn1.ObjectIdentifier
			Value string `asn1:"explicit,tag:0,utf8"`
		}
		_, err := asn1.UnmarshalWithParams(name.FullBytes, &other, "tag:0")
		if err == nil && other.ID.Equal(principal) {
			return strings.CutPrefix(other.Value, "okms.domain:")
		}
	}
	return "", false
}

// call sends a request. The result is decoded into `result`, where one is expected; where none is, the
// answer has to be one without a body.
func (c *client) call(method, path string, query url.Values, body, result any) (http.Header, error) {
	reference := "./api/" + c.domain + "/" + path
	if len(query) > 0 {
		reference += "?" + query.Encode()
	}
	target, err := c.endpoint.Parse(reference)
	if err != nil {
		return nil, err
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, target.String(), reader)
	if err != nil {
		return nil, err
	}
	for name, values := range c.header {
		request.Header[name] = values
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	isJSON := strings.Contains(answer.Header.Get("Content-Type"), "json")
	switch {
	case answer.StatusCode >= 400:
		return answer.Header, failure(answer.StatusCode, isJSON, text)
	case result == nil && answer.StatusCode == http.StatusNoContent && len(text) == 0:
		return answer.Header, nil
	case result != nil && answer.StatusCode == http.StatusOK && isJSON:
		return answer.Header, json.Unmarshal(text, result)
	}
	return nil, fmt.Errorf("%s %s: the SDK would have no result: %s, %s", method, reference,
		answer.Status, answer.Header.Get("Content-Type"))
}

func failure(status int, isJSON bool, text []byte) error {
	read := &apiError{Status: status}
	err := json.Unmarshal(text, read)
	switch status {
	case 400, 401, 404, 429, 500:
		if !isJSON {
			return fmt.Errorf("the error %d is not JSON", status)
		}
		if err != nil {
			return fmt.Errorf("the error %d does not fit: %w", status, err)
		}
	}
	return read
}

// segment is a path of a secret as one segment of a URL.
func segment(path string) string { return url.PathEscape(path) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks the status of an error, its code where that is not 0, and what the SDK shows of it.
func refused(t *testing.T, err error, status int, code int32) *apiError {
	t.Helper()
	var answer *apiError
	if !errors.As(err, &answer) {
		t.Fatalf("is %v, not an answer %d", err, status)
	}
	if answer.Status != status || answer.Code == nil || code != 0 && *answer.Code != code {
		t.Fatalf("is %v, not %d with %d", err, status, code)
	}
	if answer.RequestID == nil || *answer.RequestID == "" || answer.Errors == nil || len(*answer.Errors) == 0 {
		t.Fatalf("lacks its request or a text: %v", err)
	}
	return answer
}

func equal(t *testing.T, is, want any) {
	t.Helper()
	if fmt.Sprint(is) != fmt.Sprint(want) {
		t.Fatalf("is %v, not %v", is, want)
	}
}
