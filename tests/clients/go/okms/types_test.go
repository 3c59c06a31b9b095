package okms

// The types of the API, as a generator makes them from its description: numbers are uint32, custom
// metadata is texts, and what may be absent is a pointer.

type metadataShort struct {
	CasRequired            *bool              `json:"casRequired,omitempty"`
	CustomMetadata         *map[string]string `json:"customMetadata,omitempty"`
	DeactivateVersionAfter *string            `json:"deactivateVersionAfter,omitempty"`
	MaxVersions            *uint32            `json:"maxVersions,omitempty"`
}

type metadata struct {
	metadataShort
	CreatedAt      *string `json:"createdAt,omitempty"`
	CurrentVersion *uint32 `json:"currentVersion,omitempty"`
	OldestVersion  *uint32 `json:"oldestVersion,omitempty"`
	UpdatedAt      *string `json:"updatedAt,omitempty"`
	URN            *string `json:"urn,omitempty"`
}

// version has no pointer where the description says that the field is always there.
type version struct {
	ID            uint32          `json:"id"`
	State         string          `json:"state"`
	CreatedAt     string          `json:"createdAt"`
	DeactivatedAt *string         `json:"deactivatedAt,omitempty"`
	Data          *map[string]any `json:"data,omitempty"`
	Warnings      *[]string       `json:"warnings,omitempty"`
}

type secret struct {
	Path     *string   `json:"path,omitempty"`
	Metadata *metadata `json:"metadata,omitempty"`
	Version  *version  `json:"version,omitempty"`
	Warnings *[]string `json:"warnings,omitempty"`
}

type versionShort struct {
	Data map[string]any `json:"data"`
}

type createRequest struct {
	Path     string         `json:"path"`
	Version  versionShort   `json:"version"`
	Metadata *metadataShort `json:"metadata,omitempty"`
}

type updateRequest struct {
	Metadata *metadataShort `json:"metadata,omitempty"`
	Version  *versionShort  `json:"version,omitempty"`
}

type configV2 struct {
	CasRequired            *bool     `json:"casRequired,omitempty"`
	DeactivateVersionAfter *string   `json:"deactivateVersionAfter,omitempty"`
	MaxVersions            *uint32   `json:"maxVersions,omitempty"`
	Warnings               *[]string `json:"warnings,omitempty"`
}

type stateRequest struct {
	State string `json:"state"`
}

// answer is the envelope of the API set in Vault's form.
type answer[T any] struct {
	RequestID *string   `json:"request_id,omitempty"`
	Warnings  *[]string `json:"warnings,omitempty"`
	Data      *T        `json:"data,omitempty"`
}

type config struct {
	CasRequired        *bool   `json:"cas_required,omitempty"`
	DeleteVersionAfter *string `json:"delete_version_after,omitempty"`
	MaxVersions        *uint32 `json:"max_versions,omitempty"`
}

type updatableMetadata struct {
	config
	CustomMetadata *map[string]string `json:"custom_metadata,omitempty"`
}

type versionMetadataShort struct {
	CreatedTime  *string `json:"created_time,omitempty"`
	DeletionTime *string `json:"deletion_time,omitempty"`
	Destroyed    *bool   `json:"destroyed,omitempty"`
}

type versionMetadata struct {
	versionMetadataShort
	CustomMetadata *map[string]string `json:"custom_metadata,omitempty"`
	Version        *uint32            `json:"version,omitempty"`
}

type secretMetadata struct {
	updatableMetadata
	Keys           *[]string                        `json:"keys,omitempty"`
	CreatedTime    *string                          `json:"created_time,omitempty"`
	CurrentVersion *uint32                          `json:"current_version,omitempty"`
	OldestVersion  *uint32                          `json:"oldest_version,omitempty"`
	UpdatedTime    *string                          `json:"updated_time,omitempty"`
	URN            *string                          `json:"urn,omitempty"`
	Versions       *map[string]versionMetadataShort `json:"versions,omitempty"`
}

type secretData struct {
	Data     *map[string]any  `json:"data,omitempty"`
	Metadata *versionMetadata `json:"metadata,omitempty"`
}

type subkeys struct {
	Subkeys  *map[string]any  `json:"subkeys,omitempty"`
	Metadata *versionMetadata `json:"metadata,omitempty"`
}

type options struct {
	Cas *uint32 `json:"cas,omitempty"`
}

type dataRequest struct {
	Data    *map[string]any `json:"data,omitempty"`
	Options *options        `json:"options,omitempty"`
}

// versionsRequest has numbers, where Vault's own clients send texts.
type versionsRequest struct {
	Versions []uint32 `json:"versions"`
}

type serviceKeys struct {
	Objects           *[]any  `json:"objects_list,omitempty"`
	ContinuationToken *string `json:"continuation_token,omitempty"`
	IsTruncated       *bool   `json:"is_truncated,omitempty"`
}
