//go:build openbao

package kv2

import (
	"context"
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
	// OpenBao's alone: none of them is answered by the list that there is.
	_, err = kv.Scan(ctx, path)
	refused(t, err, 400, "scan")
	for _, detailed := range []func(context.Context, string) (*api.KVList, error){
		kv.ListWithDetails, kv.ScanWithDetails,
	} {
		if listed, err = detailed(ctx, path); err == nil && listed != nil {
			t.Fatalf("is %v", listed)
		}
	}
}
