// Owns pools whose servers come and go under them: losing a connection fails the statement on it, and never the run.
import { Pool } from 'pg';

export const lossyPool = (connectionString: string, application_name = 'test file'): Pool => {
  const pool = new Pool({ connectionString, max: 8, application_name });
  pool.on('connect', (client) => client.on('error', () => {}));
  pool.on('error', () => {});
  return pool;
};
