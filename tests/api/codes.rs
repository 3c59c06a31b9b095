//! The `error_code`s of the API. They are a part of its interface.

pub const MALFORMED: i64 = 50_405_377;
pub const METHOD_NOT_ALLOWED: i64 = 50_405_378;
pub const UNSUPPORTED_MEDIA_TYPE: i64 = 50_405_379;
pub const BODY_TOO_LARGE: i64 = 50_405_380;
pub const ROUTE_NOT_FOUND: i64 = 50_417_665;
pub const OTHER_SITE: i64 = 50_413_569;
pub const INTERNAL: i64 = 50_401_281;
pub const UNAVAILABLE: i64 = 50_425_858;
pub const CONFLICT: i64 = 50_438_145;
pub const UNAUTHENTICATED: i64 = 50_475_011;
pub const TOKEN_REFUSED: i64 = 50_479_105;
pub const FORBIDDEN: i64 = 16_924_673;
pub const DOMAIN_NOT_FOUND: i64 = 16_994_305;
pub const SECRET_NOT_FOUND: i64 = 17_125_377;
pub const VERSION_NOT_FOUND: i64 = 17_125_378;
pub const VERSION_CLOSED: i64 = 17_125_379;
pub const KEY_MANAGEMENT: i64 = 50_417_666;

pub const FIELD_REQUIRED: i64 = 17_137_665;
pub const INVALID_PATH: i64 = 17_137_666;
pub const INVALID_DATA: i64 = 17_137_667;
pub const DATA_TOO_LARGE: i64 = 17_137_668;
pub const INVALID_CUSTOM_METADATA: i64 = 17_137_669;
pub const INVALID_DURATION: i64 = 17_137_670;
pub const INVALID_MAX_VERSIONS: i64 = 17_137_671;
pub const INVALID_VERSION: i64 = 17_137_672;
pub const VERSIONS_EXHAUSTED: i64 = 17_137_673;
pub const CAS_MISMATCH: i64 = 17_137_674;
pub const INVALID_STATE: i64 = 17_137_675;
pub const SECRETS_EXHAUSTED: i64 = 17_137_676;

pub const OTHER_MOUNT: i64 = 50_413_570;
pub const TOKENS_OFF: i64 = 50_475_012;
pub const NO_TOKENS: i64 = 50_479_106;
pub const TOO_MANY_REQUESTS: i64 = 50_434_049;
pub const KEY_IN_PROGRESS: i64 = 50_438_146;
pub const KEY_REUSED: i64 = 50_405_382;
pub const TOO_MANY_KEYS: i64 = 50_434_050;
