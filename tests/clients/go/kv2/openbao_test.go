//go:build openbao

package kv2

import (
	_ "embed"
	"testing"

	"github.com/openbao/openbao/api/v2"
)

type (
	Client               = api.Client
	KVMetadataPatchInput = api.KVMetadataPatchInput
	KVMetadataPutInput   = api.KVMetadataPutInput
	KVv2                 = api.KVv2
	ResponseError        = api.ResponseError
	TLSConfig            = api.TLSConfig
)

var (
	DefaultConfig     = api.DefaultConfig
	ErrSecretNotFound = api.ErrSecretNotFound
	NewClient         = api.NewClient
	WithCheckAndSet   = api.WithCheckAndSet
	WithMergeMethod   = api.WithMergeMethod
)

//go:embed openbao_test.go
var more string

func TestLists(t *testing.T) {
	_, kv, path := secret(t)
	put(t, kv, path+"/a/b", 1)
	listed, err := kv.List(ctx, path)
	must(t, err)
	equal(t, listed.Keys, []string{"a/"})
	if domain() == "" {
		return
	}
	// OpenBao's alone: what is not served must not look like an empty list.
	_, err = kv.Scan(ctx, path)
	refused(t, err, 405, "")
	_, err = kv.ScanWithDetails(ctx, path)
	refused(t, err, 404, "")
	_, err = kv.ListWithDetails(ctx, path)
	refused(t, err, 404, "")
}
