//go:build vault

package kv2

import "github.com/hashicorp/vault/api"

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

// Its helper has no methods but those that both have.
const more = ""
