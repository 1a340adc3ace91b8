# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol itself: greeting, negotiation, envelopes, errors, order."""

import os
import unittest

from qmpclient import Daemon, Qmp


class Protocol(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__(None, None, None)

    def setUp(self):
        self.c = self.daemon.client()
        self.addCleanup(self.c.close)

    def error_of(self, text):
        reply = self.c.raw(text)
        self.assertEqual(set(reply) - {'id'}, {'error'}, reply)
        return reply['error']['class'], reply['error']['desc'], reply.get('id', 'absent')

    def test_greeting(self):
        version = self.c.greeting['QMP']['version']
        self.assertEqual(set(version['qemu']), {'major', 'minor', 'micro'})
        self.assertTrue(version['package'].startswith('tandem-'))
        self.assertEqual(self.c.greeting['QMP']['capabilities'], ['oob'])
        self.assertEqual(self.c.cmd('query-version'), version)

    def test_negotiation(self):
        self.c.close()
        self.c = self.daemon.client(negotiate=False)
        self.assertEqual(
            self.error_of('{"execute": "query-version", "id": 1}'),
            ('CommandNotFound', "Expecting capabilities negotiation with 'qmp_capabilities'", 1))
        self.assertEqual(
            self.error_of('{"execute": "qmp_capabilities", "arguments": {"enable": ["x"]}}')[0],
            'GenericError')
        self.assertEqual(self.c.raw('{"execute": "qmp_capabilities"}'), {'return': {}})
        self.assertEqual(
            self.error_of('{"execute": "qmp_capabilities"}'),
            ('CommandNotFound', 'Capabilities negotiation is already complete, command ignored',
             'absent'))

    def test_id(self):
        for given in ('null', '7', '1.5', '"x"', '[1, {"a": null}]', '{"b": "\\u00e9"}'):
            reply = self.c.raw('{"execute": "query-status", "id": %s}' % given)
            self.assertIn('id', reply)
            self.assertEqual(reply['id'], eval(given.replace('null', 'None')))
        self.assertNotIn('id', self.c.raw('{"execute": "query-status"}'))

    def test_envelope(self):
        for text, desc in (
                ('[]', 'QMP input must be a JSON object'),
                ('"x"', 'QMP input must be a JSON object'),
                ('5 ', 'QMP input must be a JSON object'),
                ('{}', "QMP input lacks member 'execute'"),
                ('{"execute": 1}', "QMP input member 'execute' must be a string"),
                ('{"execute": "stop", "arguments": []}',
                 "QMP input member 'arguments' must be an object"),
                ('{"execute": "stop", "arguments": null}',
                 "QMP input member 'arguments' must be an object"),
                ('{"execute": "stop", "extra": 1}', "QMP input member 'extra' is unexpected"),
                ('{"exec-oob": "stop"}', "QMP input member 'exec-oob' is unexpected")):
            self.assertEqual(self.error_of(text), ('GenericError', desc, 'absent'))
        self.assertEqual(self.error_of('{"exec-oob": "stop", "id": 4}')[2], 4)

    def test_out_of_band_envelope(self):
        self.c.close()
        self.c = self.daemon.client(negotiate=False)
        self.assertEqual(self.error_of('{"exec-oob": "qmp_capabilities"}')[1],
                         "QMP input member 'exec-oob' is unexpected")
        self.c.cmd('qmp_capabilities', enable=['oob', 'oob'])
        self.assertEqual(self.c.raw('{"exec-oob": "query-yank", "id": 1}'), {'return': [], 'id': 1})
        for text, desc in (
                ('{"exec-oob": "query-yank", "execute": "stop", "id": 2}',
                 "QMP input member 'execute' clashes with 'exec-oob'"),
                ('{"exec-oob": 7, "id": 2}', "QMP input member 'exec-oob' must be a string"),
                ('{"exec-oob": "query-version", "id": 2}',
                 'The command query-version does not support OOB'),
                ('{"exec-oob": "query-yank", "x": 1, "id": 2}',
                 "QMP input member 'x' is unexpected")):
            self.assertEqual(self.error_of(text), ('GenericError', desc, 2))
        self.assertEqual(self.error_of('{"exec-oob": "nope", "id": 2}'),
                         ('CommandNotFound', 'The command nope has not been found', 2))

    def test_unknown_command(self):
        self.assertEqual(self.error_of('{"execute": "nope", "id": "n"}'),
                         ('CommandNotFound', 'The command nope has not been found', 'n'))

    def test_arguments_are_strict(self):
        self.assertEqual(self.c.error('query-status', x=1), "Parameter 'x' is unexpected")
        self.assertEqual(self.c.error('xen-set-replication', enable=True),
                         "Parameter 'primary' is missing")
        self.assertEqual(self.c.error('xen-set-replication', enable=1, primary=True),
                         "Invalid parameter type for 'enable', expected: boolean")
        self.assertIn("'mode'", self.c.error('replication-start', mode='x'))

    def test_syntax(self):
        for text in ('{"execute": }', '{"execute" "stop"}', '{]', ']', 'garbage ', '{"a": 1,}',
                     '{"a": 1, "a": 2}', '{"execute": "\\x"}', '[99999999999999999999]',
                     '{"execute": "st\n', b'{"execute": "\xc3("}', b'{"execute": "\x00'):
            cls, _, ident = self.error_of(text)
            self.assertEqual((cls, ident), ('GenericError', 'absent'), text)
            self.assertEqual(self.c.raw('\n{"execute": "stop"}'), {'return': {}}, text)

    def test_reset(self):
        """A byte 0xff makes the parser begin anew, whatever it has read."""
        self.assertEqual(self.error_of(b'{"execute": "stop", "id": [[[\xff')[0], 'GenericError')
        self.assertEqual(self.c.raw('{"execute": "stop"}'), {'return': {}})

    def test_spelling(self):
        self.assertEqual(self.c.raw("{'execute': 'query-status', 'id': 'it\\'s \"x\"'}")['id'],
                         'it\'s "x"')
        text = '{"execute":"stop","id":1}{"execute":"cont","id":2} \t\r\n{"execute":"stop","id":3}'
        self.assertEqual(self.c.raw(text)['id'], 1)
        self.assertEqual([self.c.reply()['id'] for _ in range(2)], [2, 3])
        for byte in text.encode():
            self.c.sock.sendall(bytes([byte]))
        self.assertEqual([self.c.reply()['id'] for _ in range(3)], [1, 2, 3])

    def test_output_is_ascii(self):
        self.c.sock.sendall('{"execute": "stop", "id": "é😀"}'.encode())
        line = self.c.read_line()
        while b'"event"' in line:
            line = self.c.read_line()
        self.assertTrue(line.isascii() and line.endswith(b'\r\n'), line)
        self.assertIn(b'\\u00E9\\uD83D\\uDE00', line)

    def test_events_come_before_the_reply(self):
        self.c.cmd('stop')
        self.c.events.clear()
        self.c.cmd('cont')
        self.assertEqual([e['event'] for e in self.c.events], ['RESUME'])
        self.assertEqual(set(self.c.events[0]['timestamp']), {'seconds', 'microseconds'})
        self.c.cmd('cont')
        self.c.cmd('stop')
        self.assertEqual([e['event'] for e in self.c.events], ['RESUME', 'STOP'])
        self.assertEqual(self.c.cmd('query-status'), {'running': False, 'status': 'paused'})

    def test_introspection(self):
        schema = self.c.cmd('query-qmp-schema')
        commands = {s['name'] for s in schema if s['meta-type'] == 'command'}
        self.assertEqual(commands, {c['name'] for c in self.c.cmd('query-commands')})
        known = {s['name'] for s in schema}
        for entry in schema:
            for key in ('arg-type', 'ret-type', 'element-type'):
                if key in entry:
                    self.assertIn(entry[key], known)


if __name__ == '__main__':
    unittest.main()
