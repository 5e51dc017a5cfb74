// How the connection is, for a component that says so.
import { useSyncExternalStore } from 'react';
import type { Client } from '../client/client.ts';
import type { Status } from '../client/status.ts';

// As on the server, where nothing is connected, whatever has begun meanwhile.
const IDLE: Status = { state: 'idle', problem: null, connections: [] };

/**
 * The client's status: renders again whenever it changes.
 *
 * @example
 * const { state, problem } = useConnection(client);
 */
export const useConnection = ({ status }: Client): Status =>
  useSyncExternalStore(status.subscribe, status.get, () => IDLE);
