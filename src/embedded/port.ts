// Owns the questions about TCP ports on 127.0.0.1. The answers are true for an instant only: whoever starts a server on
// such a port must be ready to find it taken after all.
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

const bind = async (port: number): Promise<number> => {
  const probe = createServer();
  probe.listen({ port, host: '127.0.0.1', exclusive: true });
  await once(probe, 'listening');
  const bound = (probe.address() as AddressInfo).port;
  probe.close();
  await once(probe, 'close');
  return bound;
};

export const freePort = (): Promise<number> => bind(0);

export const isPortFree = async (port: number): Promise<boolean> => {
  try {
    await bind(port);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw new Error(
      `Port ${port} on 127.0.0.1 cannot be used (${(error as Error).message}): give another one`,
      {
        cause: error,
      },
    );
  }
};
