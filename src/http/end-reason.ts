// Why a connection ended: what is counted, and told in diagnostics.
export type EndReason =
  | 'client'
  | 'slow'
  | 'shutdown'
  | 'lifetime'
  | 'expired'
  | 'revoked'
  | 'stream'
  | 'failed';
